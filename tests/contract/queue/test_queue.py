"""Tests that every queue implementation must pass."""

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

from anb_core.domain.retry import plan_return
from anb_core.ports.queue import Delivery, Depth, Outgoing
from tests.contract.queue.conftest import SHORT, MakeStand, Stand, like_sqs, timed
from tests.support import eventually

NOW = timedelta(0)
SOON = timedelta(seconds=1)
PATIENTLY = timedelta(seconds=10)


def message(body: str, *, group: str = "video", owner: str = "ana", deduplication: str = "") -> Outgoing:
    return Outgoing(body=body, group=group, owner=owner, deduplication=deduplication or body)


def receive(stand: Stand, wait: timedelta = PATIENTLY) -> Delivery:
    delivery = stand.queue.receive(wait=wait)
    assert delivery is not None
    return delivery


def test_a_message_arrives_as_it_was_sent(stand: Stand) -> None:
    body = '{"video_id": "0197", "title": "¡Olé! 🎬 <&>"}'

    assert stand.queue.send([message(body)]) == [None]

    assert receive(stand).body == body


def test_a_batch_of_ten_arrives_each_once(stand: Stand) -> None:
    bodies = [f"body {number}" for number in range(10)]

    assert stand.queue.send([message(body) for body in bodies]) == [None] * 10

    assert Counter(receive(stand).body for _ in bodies) == Counter(bodies)
    assert stand.queue.receive(wait=NOW) is None


def test_an_empty_queue_gives_nothing(stand: Stand) -> None:
    assert stand.queue.receive(wait=NOW) is None
    assert stand.within(SOON) is None


def test_a_long_poll_wakes_when_a_message_comes(stand: Stand) -> None:
    received: list[Delivery | None] = []
    waiting = threading.Thread(target=lambda: received.append(stand.queue.receive(wait=timedelta(seconds=20))))
    waiting.start()

    stand.queue.send([message("late")])

    waiting.join(timeout=15)
    assert [delivery and delivery.body for delivery in received] == ["late"]


def test_a_received_message_is_hidden_from_others(stand: Stand) -> None:
    stand.queue.send([message("one")])
    receive(stand)

    assert stand.within(SOON) is None


@timed
def test_a_message_that_nobody_deletes_comes_again_with_another_handle(make_stand: MakeStand) -> None:
    stand = make_stand(visibility=SHORT)
    stand.queue.send([message("one")])
    first = receive(stand)

    second = stand.within(PATIENTLY)

    assert second is not None
    assert (second.message_id, second.body) == (first.message_id, first.body)
    assert second.handle != first.handle


def test_a_deleted_message_does_not_come_again(make_stand: MakeStand) -> None:
    stand = make_stand(visibility=SHORT)
    stand.queue.send([message("one")])

    stand.queue.delete(receive(stand))

    assert stand.within(2 * SHORT) is None


def test_a_message_that_is_given_back_is_there_at_once(stand: Stand) -> None:
    stand.queue.send([message("one")])

    stand.queue.give_back(receive(stand))

    assert receive(stand).body == "one"


def test_a_message_that_is_given_back_with_a_pause_stays_hidden_meanwhile(stand: Stand) -> None:
    stand.queue.send([message("one")])

    stand.queue.give_back(receive(stand), pause=timedelta(minutes=1))

    assert stand.within(SOON) is None
    assert stand.queue.depth() == Depth(visible=0, in_flight=1, delayed=0)


def test_the_age_of_a_message_is_counted_from_its_first_receipt(stand: Stand) -> None:
    stand.queue.send([message("one")])

    ages = []
    for _ in range(3):
        delivery = receive(stand)
        ages.append(delivery.age)
        stand.queue.give_back(delivery)

    assert ages[0] is None
    assert ages[1] is not None
    assert ages[2] is not None
    assert timedelta(0) <= ages[1] <= ages[2] < timedelta(minutes=1)


def test_workers_that_give_back_one_after_the_other_do_not_make_a_dead_letter(stand: Stand) -> None:
    stand.queue.send([message("one")])

    for _ in range(2):
        delivery = receive(stand)
        stand.queue.give_back(delivery, pause=plan_return(delivery.age))

    assert stand.within(SOON) is None
    assert stand.queue.depth() == Depth(visible=0, in_flight=1, delayed=0)
    assert stand.dead_letters() == []


def test_an_extended_message_stays_hidden_for_longer(make_stand: MakeStand) -> None:
    stand = make_stand(visibility=SHORT)
    stand.queue.send([message("one")])

    stand.queue.extend(receive(stand), visibility=timedelta(minutes=1))

    assert stand.within(2 * SHORT) is None


def test_a_stale_handle_is_no_error(stand: Stand) -> None:
    check_that_a_stale_handle_is_no_error(stand)


@like_sqs
def test_a_stale_handle_of_a_fifo_queue_is_no_error(fifo: Stand) -> None:
    check_that_a_stale_handle_is_no_error(fifo)


def check_that_a_stale_handle_is_no_error(stand: Stand) -> None:
    stand.queue.send([message("one")])
    stale = receive(stand)
    stand.queue.give_back(stale)
    fresh = receive(stand)
    stand.queue.delete(fresh)

    for handle in (stale.handle, fresh.handle, "never given out"):
        delivery = replace(fresh, handle=handle)
        stand.queue.delete(delivery)
        stand.queue.give_back(delivery)
        stand.queue.extend(delivery, visibility=SOON)
    assert stand.queue.receive(wait=NOW) is None


def test_the_depth_counts_what_waits_and_what_is_in_flight(stand: Stand) -> None:
    assert stand.queue.depth().empty
    stand.queue.send([message("one"), message("two")])
    assert stand.queue.depth() == Depth(visible=2, in_flight=0, delayed=0)

    delivery = receive(stand)
    assert stand.queue.depth() == Depth(visible=1, in_flight=1, delayed=0)

    stand.queue.delete(delivery)
    stand.queue.delete(receive(stand))
    assert stand.queue.depth().empty


def test_a_queue_says_how_long_it_keeps_messages(stand: Stand) -> None:
    assert stand.queue.retention() == stand.retention


def test_a_queue_hides_no_new_message_by_default(stand: Stand) -> None:
    assert stand.queue.delay() == NOW


@like_sqs
def test_a_message_that_is_received_too_often_becomes_a_dead_letter(stand: Stand) -> None:
    stand.queue.send([message("poison")])
    for _ in range(3):
        stand.queue.give_back(receive(stand))

    assert stand.within(SOON) is None
    assert eventually(stand.dead_letters) == ["poison"]
    assert stand.queue.depth().empty


def test_owners_of_any_name_may_send(stand: Stand) -> None:
    owners = ["ana", "José Pérez", "a b", "🎬", "x" * 300, "ana@example.org"]

    sent = stand.queue.send([message("one", owner=owner, deduplication=str(n)) for n, owner in enumerate(owners)])

    assert sent == [None] * len(owners)


def test_one_owners_messages_do_not_block_each_other(stand: Stand) -> None:
    stand.queue.send([message("one"), message("two")])

    assert {receive(stand).body, receive(stand).body} == {"one", "two"}


def test_making_sure_of_a_queue_twice_keeps_what_is_in_it(stand: Stand) -> None:
    stand.queue.send([message("one")])

    stand.queue.ensure()
    stand.queue.ping()

    assert stand.queue.depth().visible == 1


@like_sqs
def test_a_fifo_queue_keeps_the_order_of_a_video_and_lets_others_pass(fifo: Stand) -> None:
    fifo.queue.send([message("a1", group="a"), message("a2", group="a"), message("b1", group="b")])

    first = receive(fifo)
    assert (first.body, receive(fifo).body) == ("a1", "b1")
    assert fifo.queue.receive(wait=NOW) is None

    fifo.queue.delete(first)
    assert receive(fifo).body == "a2"


@like_sqs
def test_a_fifo_queue_drops_what_it_was_sent_before(fifo: Stand) -> None:
    assert fifo.queue.send([message("one", deduplication="17")]) == [None]
    assert fifo.queue.send([message("one", deduplication="17"), message("two", deduplication="18")]) == [None, None]

    assert fifo.queue.depth().visible == 2
