"""Which leaves are to be told of an event or a value: by kind and name, by pattern, by the root of the attribute."""

from collections.abc import Iterable, Sequence, Set

from backstory.core.leaf import AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.leaf_key import AnyLeaf
from backstory.core.metric import MESSAGE
from backstory.core.wildcard import is_wildcard

AnyEventLeaf = CountLeaf | WindowLeaf


class LeafIndex:
    """Leaves over devices and relationships, and guards, are told in other ways: they pass through unnoticed."""

    def __init__(self) -> None:
        self._by_event: dict[tuple[str, str], list[AnyEventLeaf]] = {}
        # Those whose names hold wildcards.
        self._by_pattern: list[AnyEventLeaf] = []
        self._by_attribute: dict[str, list[AttributeLeaf]] = {}

    def add(self, leaf: AnyLeaf) -> None:
        if isinstance(leaf, AnyEventLeaf):
            if is_wildcard(leaf.test.name):
                self._by_pattern.append(leaf)
            else:
                self._by_event.setdefault((leaf.test.kind, leaf.test.name), []).append(leaf)
        elif isinstance(leaf, AttributeLeaf):
            self._by_attribute.setdefault(leaf.root, []).append(leaf)

    def remove(self, leaf: AnyLeaf) -> None:
        if isinstance(leaf, AnyEventLeaf):
            named = self._by_event.get((leaf.test.kind, leaf.test.name), [])
            (self._by_pattern if is_wildcard(leaf.test.name) else named).remove(leaf)
        elif isinstance(leaf, AttributeLeaf):
            self._by_attribute[leaf.root].remove(leaf)

    def of_event(self, kind: str, name: str) -> Sequence[AnyEventLeaf]:
        """The leaves over one pair of kind and name."""
        if self._by_pattern:
            return self.of_events([(kind, name)])
        return self._by_event.get((kind, name), ())

    def of_events(self, names: Sequence[tuple[str, str]]) -> list[AnyEventLeaf]:
        """The leaves over these (kind, name) pairs."""
        exact = [leaf for name in names for leaf in self._by_event.get(name, ())]
        return exact + [leaf for leaf in self._by_pattern if any(leaf.test.counts(*name) for name in names)]

    def of_messages(self) -> list[AnyEventLeaf]:
        """The leaves over what happened to messages."""
        return [leaf for (kind, _), leaves in self._by_event.items() if kind == MESSAGE for leaf in leaves]

    def of_attributes(self, roots: Iterable[str] | None = None) -> list[AttributeLeaf]:
        """The leaves over attributes with these root names, None: over all."""
        chosen = self._by_attribute if roots is None else roots
        return [leaf for root in chosen for leaf in self._by_attribute.get(root, ())]

    def asked_roots(self, roots: Set[str]) -> list[str]:
        """Those of these root names over which there are leaves."""
        return [root for root in self._by_attribute.keys() & roots if self._by_attribute[root]]
