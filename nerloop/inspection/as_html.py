"""page"""


def as_html(i):
    return ""
