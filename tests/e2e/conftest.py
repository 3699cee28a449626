"""What the tests in a browser share."""

from support.browser import browser as browser
from support.browser import visit as visit
