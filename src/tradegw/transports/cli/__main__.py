"""`python -m tradegw.transports.cli`, where the script `tradegw` is not on the path."""

from tradegw.transports.cli import main

if __name__ == "__main__":
    main()
