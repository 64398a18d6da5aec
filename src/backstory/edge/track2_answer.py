"""Answers of Track API v2, and receipts: one for a request, one for each item of a batch.

    200 {}                                                  all of it is accepted
    207 {"errors":[{"batch_index","reason","field","message"}]}  these items were refused, the others are accepted
    400 {"errors":[{"reason","field","message"}]}           nothing was accepted

With ``Backstory-Wait: applied`` there is a ``receipt``, or ``receipts`` in the order of the items, refused ones too.
"""

from collections.abc import Sequence

from backstory.core.error import RequestError
from backstory.core.fact import Receipt
from backstory.edge.receiving import BodyTooLongError, BodyTooSlowError
from backstory.edge.submission import is_pending, receipt_shape, refused_shape
from backstory.edge.track2 import item_error
from backstory.edge.track2_batch import Decoded
from backstory.edge.track_answer import ACCEPTED, Answer, RouteError, answer, refusal


def entity_answer(receipts: Sequence[Receipt]) -> Answer:
    """The receipt of one request; 202 while it is pending."""
    return answer(202 if is_pending(receipts) else 200, {"receipt": receipt_shape(receipts)})


def batch_answer(decoded: Decoded, receipts: Sequence[Receipt] | None) -> Answer:
    """What became of a batch; ``receipts`` of its facts in order when they were waited for."""
    body: dict[str, object] = {}
    if decoded.refused:
        body["errors"] = [item_error(error, number) for number, error in decoded.refused.items()]
    if receipts is None:
        return answer(207, body) if body else ACCEPTED
    body["receipts"] = item_receipts(decoded, receipts)
    status = 207 if decoded.refused else 202 if is_pending(receipts) else 200
    return answer(status, body)


def item_receipts(decoded: Decoded, receipts: Sequence[Receipt]) -> list[dict[str, object]]:
    """A receipt for each item of a batch, in its order."""
    shapes: list[dict[str, object]] = []
    place = 0
    for number, size in enumerate(decoded.sizes):
        refused = decoded.refused.get(number)
        if refused is not None:
            shapes.append(refused_shape(refused))
        elif size:
            shapes.append(receipt_shape(receipts[place : place + size]))
        else:
            shapes.append(receipt_shape([NOTHING]))
        place += size
    return shapes


# An item that asked for nothing, such as relationships in an empty list.
NOTHING = Receipt(result="applied", reason="there was nothing to do")


def operation_refusal(error: Exception) -> Answer:
    """The answer to a request of v2 that was refused as a whole."""
    match error:
        case RouteError() | BodyTooSlowError():
            return refusal(error)
        case BodyTooLongError() | RequestError():
            return answer(400, {"errors": [item_error(error)]})
        case _:
            return refusal(error)
