"""Where outcomes are placed while the topic of requests grows."""

import pytest

from serving.publish import fits
from tests.support.by_hand import an_event, sent
from tests.support.generated.cases import messages_of

ASKED = an_event()


@pytest.mark.parametrize(("partition", "fit"), [(0, True), (3, True), (4, False)])
def test_a_request_of_a_partition_that_predictions_lack_is_noticed(
    partition: int, fit: bool
) -> None:
    messages = messages_of([sent(ASKED, 1), sent(ASKED, 2, partition=partition)])
    assert fits(messages, 4) is fit
    assert fits(messages, None)
