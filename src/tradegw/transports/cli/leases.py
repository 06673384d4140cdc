"""`tradegw lease ...`: who serves which account, where several gateways share the store."""

from __future__ import annotations

from pathlib import Path

from tradegw.errors import ConfigError
from tradegw.gateway.config import load_config
from tradegw.gateway.leases import LeaseState, list_leases, release_lease
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.show import console, print_json, show_table
from tradegw.transports.cli.values import clean

__all__ = ["lease_list", "lease_release"]


async def lease_list(*, config: Path | None = None, json: Json = False) -> None:
    """Show which gateway serves which account.

    FREE: none. HELD: the one that is named. EXPIRED: it is silent, and the next one takes over. STUCK: it is
    silent, and nobody takes over, because the venue would still take what it may send when it wakes.

    For example:

        tradegw lease list

    Args:
        config: Configuration. Default: tradegw.toml in the working directory, if there is one.
    """
    found = await list_leases(load_config(config))
    if json:
        print_json({"leases": found})
        return
    show_table(
        ["account", "state", "address", "process", "host"],
        [
            [
                lease.account,
                lease.state,
                clean(lease.address),
                str(lease.pid or ""),
                clean(lease.host),
            ]
            for lease in found
        ],
    )


async def lease_release(
    account: str, *, gone: bool = False, config: Path | None = None, json: Json = False
) -> None:
    """Say that the silent holder of an account is gone for good, so that another gateway takes over.

    Needed only where the venue refuses no old request and the holder ran on another machine. See with your
    own eyes that its process has ended: one that only sleeps would send when it wakes, beside its successor.

    For example:

        tradegw lease release main --gone

    Args:
        account: The account.
        gone: Needed, because it says that the holder's process has ended.
        config: Configuration. Default: tradegw.toml in the working directory, if there is one.
    """
    settings = load_config(config)
    if not gone:
        raise ConfigError(
            f"see that the process which holds account {account} has ended, then add --gone",
            reason="NOT_CONFIRMED",
        )
    await release_lease(settings, account)
    if json:
        print_json({"account": account, "state": LeaseState.FREE})
    else:
        console().print(clean(f"the lease of {account} is free"), style="green")
