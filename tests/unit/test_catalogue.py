"""Which document is in force for which router: the catalogue against a model that only computes the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.errors import DocumentError
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Bad, Changed, Deleted, Document, Event
from dvr_agent.sources.catalogue import Catalogue


def document(name: str, router_id: str, content: str = "") -> Document:
    return Document(name, Router(id=router_id, name=content), f"{router_id} {content}".encode())


def broken(name: str) -> DocumentError:
    return DocumentError(name, "$", "", "JSON")


def test_a_new_document_is_announced_and_the_same_content_again_is_not() -> None:
    catalogue = Catalogue()
    first = document("a", "X")
    assert catalogue.put(first) == [Changed(first)]
    assert catalogue.put(document("a", "X")) == []
    assert catalogue.document("X") == first


def test_a_bad_document_keeps_its_router_and_is_reported_once() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    (bad,) = catalogue.put_bad("a", broken("a"), None)
    assert isinstance(bad, Bad)
    assert bad.router_id == "X"
    assert catalogue.put_bad("a", broken("a"), None) == []
    assert catalogue.known() == {"X"}
    assert catalogue.complete()
    assert catalogue.document("X") == document("a", "X")
    assert set(catalogue.bad()) == {"a"}


def test_a_document_that_is_good_again_with_old_content_is_announced() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    catalogue.put_bad("a", broken("a"), None)
    assert catalogue.put(document("a", "X")) == [Changed(document("a", "X"))]
    assert catalogue.bad() == {}


def test_an_unknown_bad_document_makes_the_listing_incomplete_until_its_router_is_known() -> None:
    catalogue = Catalogue()
    catalogue.put_bad("a", broken("a"), None)
    assert not catalogue.complete()
    catalogue.put_bad("a", broken("a"), "X")
    assert catalogue.complete()
    assert catalogue.known() == {"X"}
    assert catalogue.document("X") is None


def test_an_id_that_was_made_out_once_is_kept_while_nothing_better_is_known() -> None:
    catalogue = Catalogue()
    catalogue.put_bad("a", broken("a"), "X")
    catalogue.put_bad("a", DocumentError("a", "$", "", "something"), None)
    assert catalogue.known() == {"X"}
    assert catalogue.complete()
    catalogue.put_bad("a", broken("a"), "Y")
    assert catalogue.known() == {"Y"}
    assert catalogue.drop("a", deleted=True) == [Deleted("Y", "a")]


def test_the_second_document_of_a_router_is_bad_and_takes_over_when_the_first_goes() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X", "one"))
    (bad,) = catalogue.put(document("b", "X", "two"))
    assert isinstance(bad, Bad)
    assert bad.router_id is None
    assert bad.second
    assert "b: $.id" in str(bad.error)
    assert "and a is of the same one" in str(bad.error)
    assert catalogue.good() == 1
    assert catalogue.drop("a", deleted=True) == [Changed(document("b", "X", "two"))]
    assert catalogue.bad() == {}


def test_a_second_document_is_the_bad_one_whatever_its_name() -> None:
    catalogue = Catalogue()
    catalogue.put(document("b", "X", "two"))
    (bad,) = catalogue.put(document("a", "X", "one"))
    assert isinstance(bad, Bad)
    assert (bad.name, bad.router_id, bad.second) == ("a", None, True)
    assert "a: $.id" in str(bad.error)
    assert "and b is of the same one" in str(bad.error)
    assert catalogue.document("X") == document("b", "X", "two")
    assert catalogue.complete()
    assert catalogue.drop("a", deleted=True) == []
    assert catalogue.bad() == {}
    assert catalogue.document("X") == document("b", "X", "two")


def test_of_three_documents_of_a_router_the_next_one_by_arrival_follows() -> None:
    catalogue = Catalogue()
    for name in ("c", "b", "a"):
        catalogue.put(document(name, "X", name))
    changed, bad = catalogue.drop("c", deleted=True)
    assert changed == Changed(document("b", "X", "b"))
    assert isinstance(bad, Bad)
    assert "and b is of the same one" in str(bad.error)
    assert catalogue.drop("b", deleted=False) == [Changed(document("a", "X", "a"))]
    assert catalogue.bad() == {}


def test_an_unreadable_second_document_affects_no_router() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    (bad,) = catalogue.put_bad("b", broken("b"), "X")
    assert isinstance(bad, Bad)
    assert (bad.router_id, bad.second) == (None, True)
    assert catalogue.drop("b", deleted=True) == []
    catalogue.put_bad("b", broken("b"), "X")
    (bad,) = catalogue.drop("a", deleted=True)
    assert isinstance(bad, Bad)
    assert (bad.name, bad.router_id, bad.second) == ("b", "X", False)
    assert catalogue.drop("b", deleted=True) == [Deleted("X", "b")]


def test_a_document_that_becomes_the_second_one_of_another_router_keeps_its_own() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    catalogue.put(document("b", "Y"))
    (bad,) = catalogue.put(document("a", "Y", "copied"))
    assert isinstance(bad, Bad)
    assert (bad.router_id, bad.second) == ("X", False)
    assert "and b is of the same one" in str(bad.error)
    assert catalogue.known() == {"X", "Y"}
    assert catalogue.put(document("a", "X")) == [Changed(document("a", "X"))]
    catalogue.put(document("a", "Y", "copied"))
    assert catalogue.drop("b", deleted=True) == [Changed(document("a", "Y", "copied")), Deleted("X", "a")]
    assert catalogue.known() == {"Y"}
    assert catalogue.bad() == {}


def test_documents_that_swap_their_files_are_all_in_force_again() -> None:
    for ids in ("XY", "XYZ"):
        catalogue = Catalogue()
        names = "abc"[: len(ids)]
        for name, router_id in zip(names, ids, strict=True):
            catalogue.put(document(name, router_id))
        for name, router_id in zip(names, ids[1:] + ids[0], strict=True):
            catalogue.put(document(name, router_id, "swapped"))
        assert catalogue.bad() == {}
        for name, router_id in zip(names, ids[1:] + ids[0], strict=True):
            assert catalogue.document(router_id) == document(name, router_id, "swapped")


def test_a_refused_document_of_another_router_makes_way_for_one_that_is_of_its_former_router() -> None:
    for early in (True, False):
        catalogue = Catalogue()
        catalogue.put(document("a", "X"))
        catalogue.put(document("b", "Y"))
        if early:
            catalogue.put(document("c", "X", "new"))
        events = catalogue.put(document("a", "Y", "copied"))
        if not early:
            events = catalogue.put(document("c", "X", "new"))
        assert Changed(document("c", "X", "new")) in events
        (bad,) = [event for event in events if isinstance(event, Bad)]
        assert (bad.name, bad.router_id, bad.second) == ("a", None, True)
        assert catalogue.bad().keys() == {"a"}
        assert catalogue.document("X") == document("c", "X", "new")
        assert catalogue.document("Y") == document("b", "Y")


def test_a_bad_document_stays_the_first_one() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X", "one"))
    catalogue.put_bad("a", broken("a"), None)
    assert isinstance(catalogue.put(document("b", "X", "two"))[0], Bad)
    assert catalogue.document("X") == document("a", "X", "one")
    assert catalogue.drop("a", deleted=True) == [Changed(document("b", "X", "two"))]


def test_a_document_that_changes_its_router_deletes_the_old_one_unless_another_has_it() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    assert catalogue.put(document("a", "Y")) == [Changed(document("a", "Y")), Deleted("X", "a")]
    catalogue.put(document("b", "Y", "second"))
    assert catalogue.put(document("a", "Z")) == [Changed(document("a", "Z")), Changed(document("b", "Y", "second"))]
    assert catalogue.known() == {"Y", "Z"}


def test_the_same_file_deleted_or_merely_absent_makes_the_difference() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    assert catalogue.drop("a", deleted=False) == []
    assert catalogue.known() == frozenset()
    catalogue.put(document("a", "X"))
    assert catalogue.drop("a", deleted=True) == [Deleted("X", "a")]


@dataclass
class Listener:
    """What somebody believes who hears nothing but the events."""

    routers: dict[str, Document] = field(default_factory=dict)

    def hear(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Changed):
                self.routers[event.document.router.id] = event.document
            elif isinstance(event, Deleted):
                self.routers.pop(event.router_id, None)


NAMES = st.sampled_from(["a", "b", "c"])
IDS = st.sampled_from(["X", "Y"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, IDS, st.sampled_from(["one", "two"])),
    st.tuples(st.just("spoil"), NAMES, st.none() | IDS, st.just("")),
    st.tuples(st.just("drop"), NAMES, st.none(), st.just("")),
)


@given(st.lists(STEPS, max_size=30))
def test_the_events_lead_to_what_the_documents_say(steps: list[tuple[str, str, str | None, str]]) -> None:
    catalogue, listener = Catalogue(), Listener()
    readable: dict[str, Document] = {}
    """Name → content when it could last be read."""
    peeked: dict[str, str | None] = {}
    broken_now: set[str] = set()
    for verb, name, router_id, content in steps:
        before = {one: found.name for one in ("X", "Y") if (found := catalogue.document(one)) is not None}
        if verb == "put":
            readable[name] = document(name, str(router_id), content)
            peeked.pop(name, None)
            broken_now.discard(name)
            events = catalogue.put(readable[name])
        elif verb == "spoil":
            broken_now.add(name)
            if name not in readable:
                peeked[name] = router_id or peeked.get(name)
            events = catalogue.put_bad(name, broken(name), router_id)
        else:
            for had in (readable, peeked):
                had.pop(name, None)
            broken_now.discard(name)
            events = catalogue.drop(name, deleted=True)
        listener.hear(events)
        for one, holder in before.items():
            now = catalogue.document(one)
            if holder in readable and readable[holder].router.id == one:
                assert now is not None
                assert now.name == holder, "a document that is there was replaced by another"
    wanted = {found.router.id for found in readable.values()} | {one for one in peeked.values() if one}
    assert catalogue.known() >= wanted
    assert catalogue.complete() == (None not in peeked.values())
    usable = readable.keys() - broken_now
    refused = catalogue.bad().keys() - broken_now
    assert catalogue.bad().keys() == broken_now | refused
    for router_id in ("X", "Y"):
        names = {name for name in usable if readable[name].router.id == router_id}
        found = catalogue.document(router_id)
        if names - refused:
            assert found is not None
            assert names - refused == {found.name}
            assert found == readable[found.name]
        if names:
            assert found is not None
            assert router_id in catalogue.known()
            assert readable[found.name].router.id == router_id, "a document of another router stands in the way"
        assert listener.routers.get(router_id) == found
        # A router without any document of its own stays only for one that was in force and is now refused or broken.
        if router_id in catalogue.known() - wanted:
            assert found is not None
            assert found.name in catalogue.bad()


@given(st.permutations([("a", "X", "one"), ("b", "X", "two"), ("c", "Y", "three"), ("d", "X", "one")]))
def test_the_first_document_that_arrives_is_in_force(arrival: list[tuple[str, str, str]]) -> None:
    catalogue = Catalogue()
    for one in arrival:
        catalogue.put(document(*one))
    first, *others = (name for name, router_id, _ in arrival if router_id == "X")
    found = catalogue.document("X")
    assert found is not None
    assert found.name == first
    assert set(catalogue.bad()) == set(others)
