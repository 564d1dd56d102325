"""Monthly reports."""

from ledger.accounts import Ledger


def monthly_totals(ledger: Ledger, account: str) -> dict[str, int]:
    """Cents that came into `account`, by month ("2026-03")."""
    totals: dict[str, int] = {}
    for transaction in ledger.transactions:
        ▮
    return totals
