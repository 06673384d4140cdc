"""`python -m tradegw_mock`: the same commands as `tradegw mock`."""

from tradegw_mock.cli import make_app

if __name__ == "__main__":
    make_app()()
