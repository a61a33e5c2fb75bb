"""Description of a kind of kernel object (:class:`Kind`).

Code that treats all kinds alike (diff, order, slices, ``dvrctl show``, the fake kernel) reads a
:class:`Kind`.  Each kind's module ends with its description; :mod:`dvr_agent.state.namespace` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import eq
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from dvr_agent.state.ownership import Ownership


class KernelObject(Hashable, Protocol):
    """A value that describes one object in a namespace: hashable, comparable, with a text in iproute2's terms."""

    @property
    def text(self) -> str:
        """The object as iproute2 would write it."""


T = TypeVar("T", bound=KernelObject)


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[T]):
    """One kind of kernel object.

    :ivar type: class of its values
    :ivar name: in the singular, as plans and JSON name it
    :ivar field: field of ``NamespaceState`` that contains them
    :ivar build_rank: rank in the order of building, of the kind or of each object; lower ranks come first
    :ivar remove_rank: rank in the order of removal
    :ivar owned: True if an :class:`Ownership` claims an object found in the kernel
    :ivar devices: names of the devices that the object names
    :ivar key: identity under which a value is changed in place; None: the whole object is its identity, so that it is
        added and removed but never changed
    :ivar same: True if an object found in the kernel needs no change to be the desired one
    :ivar table: routing table that contains the object, for kinds of which a slice owns whole tables
    :ivar removable: False if the kernel cannot remove objects of this kind, only change them
    :ivar goes_with_device: False if the object stays in the kernel when a device that it names is removed
    :ivar on_own_devices: False if objects of a slice may be on devices that it does not own
    :ivar flushed_on_new_mac: True if the kernel removes the objects of a device whose MAC address changes
    :ivar selector: the traffic that the object applies to: one that is removed goes before its NAT does, unless an
        object that is added applies to the same traffic
    :ivar place: place in the kernel that only one object at a time can take: the old object is removed right before the
        new one is added; None: there is no such place
    """

    type: type[T]
    name: str
    field: str
    build_rank: int | Callable[[T], int]
    remove_rank: int | Callable[[T], int]
    owned: Callable[[Ownership, T], bool]
    devices: Callable[[T], tuple[str, ...]]
    key: Callable[[T], Hashable] | None = None
    same: Callable[[T, T], bool] = eq
    table: Callable[[T], int] | None = None
    removable: bool = True
    goes_with_device: bool = True
    on_own_devices: bool = True
    flushed_on_new_mac: bool = False
    selector: Callable[[T], Hashable] | None = None
    place: Callable[[T], Hashable | None] | None = None

    def identity(self, item: T) -> Hashable:
        """Return the identity of an object: two values with the same one describe the same object."""
        return item if self.key is None else self.key(item)


AnyKind = Kind[Any]


def on_own_device(ownership: Ownership, item: Any) -> bool:
    """True if the device of an object is ours (``Kind.owned`` of objects with a ``device``)."""
    return ownership.owns_device(item.device)


def only_device(item: Any) -> tuple[str, ...]:
    """Return the one device of an object (``Kind.devices`` of objects with a ``device``)."""
    return (item.device,)
