"""`python -m atm_search`."""

from atm_search.cli.main import main

main()
