DROP TABLE client_number;
