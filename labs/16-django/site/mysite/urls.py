"""One page."""

from django.urls import path

from mysite.views import visit

urlpatterns = [path("", visit)]
