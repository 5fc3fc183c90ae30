"""What a process asks for a name with, as the table of names takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.ids import ActorId, Namespace, ProcessId
from fray.runtime.leases import Registration

if TYPE_CHECKING:
    from fray.cluster.control import NameClaim


def registration_of(claim: NameClaim) -> Registration:
    """A claim, as `fray.runtime.leases.NameTable` registers it.

    Args:
        claim: What was asked for.
    """
    endpoint = claim.endpoint
    return Registration(
        namespace=Namespace(claim.namespace),
        name=claim.name,
        actor_id=ActorId(endpoint.actor_id),
        incarnation=claim.incarnation,
        address=endpoint.address,
        process_id=ProcessId(endpoint.process_id or endpoint.address),
        key=claim.slot,
        exclusive=claim.exclusive,
        metadata=endpoint.metadata,
        ttl_s=claim.ttl_s,
    )


__all__ = ["registration_of"]
