"""What a store holds, for tests that look at all of it. It asks the store's own questions and knows no SQL."""

from __future__ import annotations

from slmgate.stores.base import KeyStore, LedgerStore
from slmgate.stores.records import KeyFilter, KeyRecord, ReceiptFilter
from slmgate.terms import Receipt


def all_receipts(store: LedgerStore, which: ReceiptFilter | None = None) -> list[Receipt]:
    """Every receipt meant, in order of arrival."""
    return [numbered.receipt for numbered in store.receipts(which or ReceiptFilter(), 1_000_000, after=0)]


def all_keys(store: KeyStore) -> list[KeyRecord]:
    """Every key, oldest first, revoked ones too."""
    return store.keys(KeyFilter(), 1_000_000)
