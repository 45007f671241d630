import pytest
from heads import tiny_head


@pytest.fixture(scope="module")
def head():
    return tiny_head()


@pytest.fixture(scope="module")
def model(head):
    return head
