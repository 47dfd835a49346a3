"""Certificate policies along a path: RFC 5280 §6.1.2 to 6.1.5, with the graph of RFC 9618 for the tree.

The tree of RFC 5280 can grow exponentially under hostile policy mappings; the graph keeps one node a
policy and level. Only the last level is extended, and a level that comes out empty ends the graph, so
the pruning of RFC 9618 §5.3 needs no step of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from medmail_cli.pki.x509.certificate import ANY_POLICY, Facts


@dataclass(frozen=True)
class PolicySettings:
    """The inputs (c) to (g) of RFC 5280 §6.1.1; as they stand, every policy and none is acceptable."""

    acceptable: frozenset[str] | None = None
    """user-initial-policy-set; None is anyPolicy."""
    require_explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


@dataclass
class _Node:
    policy: str
    expected: frozenset[str]
    parents: "list[_Node]" = field(default_factory=list)


_Level = dict[str, _Node]


def policies_hold(path: Sequence[Facts], settings: PolicySettings) -> bool:
    """Whether the policies allow the path, which runs from below the anchor to the end certificate."""
    length = len(path)
    explicit = 0 if settings.require_explicit else length + 1
    mapping = 0 if settings.inhibit_mapping else length + 1
    any_policy = 0 if settings.inhibit_any else length + 1
    level: _Level = {ANY_POLICY: _Node(ANY_POLICY, frozenset({ANY_POLICY}))}
    for position, certificate in enumerate(path, start=1):
        last = position == length
        any_allowed = any_policy > 0 or (not last and certificate.self_issued)
        level = _next_level(level, certificate.policies, any_allowed=any_allowed)
        if explicit == 0 and not level:
            return False
        if last:
            break
        if certificate.mappings is not None:
            if any(ANY_POLICY in pair for pair in certificate.mappings):
                return False
            level = _map(level, certificate.mappings, allowed=mapping > 0)
        if not certificate.self_issued:
            explicit, mapping, any_policy = max(explicit - 1, 0), max(mapping - 1, 0), max(any_policy - 1, 0)
        explicit = _least(explicit, certificate.explicit_after)
        mapping = _least(mapping, certificate.no_mapping_after)
        any_policy = _least(any_policy, certificate.no_any_policy_after)
    explicit = max(explicit - 1, 0)
    if path[-1].explicit_after == 0:
        explicit = 0
    return explicit > 0 or _accepted(level, settings.acceptable)


def _least(counter: int, limit: int | None) -> int:
    return counter if limit is None else min(counter, limit)


def _next_level(above: _Level, policies: frozenset[str] | None, *, any_allowed: bool) -> _Level:
    """RFC 5280 §6.1.3 (d) and (e), as RFC 9618 §5.3 has it."""
    if policies is None:
        return {}
    expecting: dict[str, list[_Node]] = {}
    for node in above.values():
        for policy in node.expected:
            expecting.setdefault(policy, []).append(node)
    level: _Level = {}
    for policy in policies - {ANY_POLICY}:
        parents = expecting.get(policy) or ([above[ANY_POLICY]] if ANY_POLICY in above else [])
        if parents:
            level[policy] = _Node(policy, frozenset({policy}), parents)
    if ANY_POLICY in policies and any_allowed:
        for policy, parents in expecting.items():
            if policy not in level:
                level[policy] = _Node(policy, frozenset({policy}), parents)
    return level


def _map(level: _Level, mappings: Sequence[tuple[str, str]], *, allowed: bool) -> _Level:
    """RFC 5280 §6.1.4 (b): replace what is expected below, or drop the mapped policies."""
    mapped: dict[str, set[str]] = {}
    for theirs, ours in mappings:
        mapped.setdefault(theirs, set()).add(ours)
    if not allowed:
        return {policy: node for policy, node in level.items() if policy not in mapped}
    level = dict(level)
    for policy, targets in mapped.items():
        if policy in level:
            level[policy] = _Node(policy, frozenset(targets), level[policy].parents)
        elif ANY_POLICY in level:
            level[policy] = _Node(policy, frozenset(targets), level[ANY_POLICY].parents)
    return level


def _accepted(level: _Level, acceptable: frozenset[str] | None) -> bool:
    """RFC 5280 §6.1.5 (g): what is left of the graph meets the policies the user accepts."""
    if acceptable is None or ANY_POLICY in level:
        return bool(level)
    waiting, seen = list(level.values()), set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.policy in acceptable and any(p.policy == ANY_POLICY for p in node.parents):
            return True
        waiting += node.parents
    return False
