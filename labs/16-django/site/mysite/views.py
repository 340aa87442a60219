"""The page: how often its reader was here, which the database knows."""

from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static

PAGE = """<html><head><link rel="stylesheet" href="{style}"></head>
<body><h1>Hello from Django</h1><p>Visit {count} from {reader}</p></body></html>
"""


def visit(request: HttpRequest) -> HttpResponse:
    count = request.session.get("visits", 0) + 1
    request.session["visits"] = count
    reader = request.META["REMOTE_ADDR"]
    return HttpResponse(PAGE.format(style=static("style.css"), count=count, reader=reader))
