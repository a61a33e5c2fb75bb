"""Which document speaks for which router: the catalogue against a model that only looks at the outcome."""

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
    (bad,) = catalogue.spoil("a", broken("a"), None)
    assert isinstance(bad, Bad)
    assert bad.router_id == "X"
    assert catalogue.spoil("a", broken("a"), None) == []
    assert catalogue.known() == {"X"}
    assert catalogue.complete()
    assert catalogue.document("X") == document("a", "X")
    assert set(catalogue.bad()) == {"a"}


def test_a_document_that_is_good_again_with_old_content_is_announced() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X"))
    catalogue.spoil("a", broken("a"), None)
    assert catalogue.put(document("a", "X")) == [Changed(document("a", "X"))]
    assert catalogue.bad() == {}


def test_an_unknown_bad_document_makes_the_listing_incomplete_until_its_router_is_known() -> None:
    catalogue = Catalogue()
    catalogue.spoil("a", broken("a"), None)
    assert not catalogue.complete()
    catalogue.spoil("a", broken("a"), "X")
    assert catalogue.complete()
    assert catalogue.known() == {"X"}
    assert catalogue.document("X") is None


def test_an_id_that_was_made_out_once_is_kept_while_nothing_better_is_known() -> None:
    catalogue = Catalogue()
    catalogue.spoil("a", broken("a"), "X")
    catalogue.spoil("a", DocumentError("a", "$", "", "something"), None)
    assert catalogue.known() == {"X"}
    assert catalogue.complete()
    catalogue.spoil("a", broken("a"), "Y")
    assert catalogue.known() == {"Y"}
    assert catalogue.drop("a", deleted=True) == [Deleted("Y", "a")]


def test_the_second_document_of_a_router_is_bad_and_takes_over_when_the_first_goes() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X", "one"))
    (bad,) = catalogue.put(document("b", "X", "two"))
    assert isinstance(bad, Bad)
    assert bad.router_id is None
    assert "b: $.id" in str(bad.error)
    assert "and a is of the same one" in str(bad.error)
    assert catalogue.good() == 1
    assert catalogue.drop("a", deleted=True) == [Changed(document("b", "X", "two"))]
    assert catalogue.bad() == {}


def test_a_document_that_comes_before_the_present_one_by_name_takes_over_at_once() -> None:
    catalogue = Catalogue()
    catalogue.put(document("b", "X", "two"))
    changed, bad = catalogue.put(document("a", "X", "one"))
    assert changed == Changed(document("a", "X", "one"))
    assert isinstance(bad, Bad)
    assert bad.name == "b"


def test_a_bad_document_stays_the_first_one() -> None:
    catalogue = Catalogue()
    catalogue.put(document("a", "X", "one"))
    catalogue.spoil("a", broken("a"), None)
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
    good: dict[str, Document] = {}
    peeked: dict[str, str | None] = {}
    bad: set[str] = set()
    unsaid: set[str | None] = set()
    """Routers whose last trace was an id made out in a bad document: only a complete listing may call them gone."""
    for verb, name, router_id, content in steps:
        if verb == "put":
            good[name] = document(name, str(router_id), content)
            unsaid.add(peeked.pop(name, None))
            bad.discard(name)
            listener.hear(catalogue.put(good[name]))
        elif verb == "spoil":
            bad.add(name)
            if name not in good and router_id != peeked.get(name):
                unsaid.add(peeked.get(name) if router_id else None)
                peeked[name] = router_id or peeked.get(name)
            elif name not in good:
                peeked[name] = router_id
            listener.hear(catalogue.spoil(name, broken(name), router_id))
        else:
            for had in (good, peeked):
                had.pop(name, None)
            bad.discard(name)
            listener.hear(catalogue.drop(name, deleted=True))
    speakers: dict[str, str] = {}
    for name in sorted(good):
        speakers.setdefault(good[name].router.id, name)
    assert catalogue.known() == set(speakers) | {claim for claim in peeked.values() if claim}
    assert catalogue.complete() == (None not in peeked.values())
    duplicates = good.keys() - set(speakers.values())
    assert set(catalogue.bad()) == bad | duplicates
    assert catalogue.good() == len(good.keys() | peeked.keys()) - len(bad | duplicates)
    for router_id, name in speakers.items():
        if name not in bad:
            assert listener.routers[router_id] == good[name]
            assert catalogue.document(router_id) == good[name]
    assert listener.routers.keys() - unsaid <= catalogue.known()


@given(st.permutations([("a", "X", "one"), ("b", "X", "two"), ("c", "Y", "three"), ("d", "X", "one")]))
def test_the_order_in_which_documents_arrive_does_not_matter(arrival: list[tuple[str, str, str]]) -> None:
    catalogue = Catalogue()
    for one in arrival:
        catalogue.put(document(*one))
    assert catalogue.document("X") == document("a", "X", "one")
    assert set(catalogue.bad()) == {"b", "d"}
