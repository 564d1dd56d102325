"""Accounts and the transactions between them."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

from ledger.money import Money


@dataclass
class Transaction:
    day: date
    source: str
    target: str
    amount: Money


@dataclass
class Ledger:
    transactions: list[Transaction] = field(default_factory=list)

    def transfer(self, day: date, source: str, target: str, amount: Money) -> None:
        """Move money from one account to another."""
        self.transactions.append(▮)

    def balances(self) -> dict[str, int]:
        """The balance of every account in cents."""
        totals: dict[str, int] = defaultdict(int)
        for transaction in self.transactions:
            totals[transaction.source] -= transaction.amount.cents
            totals[transaction.target] += transaction.amount.cents
        return dict(totals)
