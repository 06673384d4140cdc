"""Events of tradegw to RabbitMQ, and commands from there."""
