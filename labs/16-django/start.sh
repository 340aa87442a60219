#!/bin/sh
# The database is on the volume, so it is made at a start, not in the image.
set -eu
python3 manage.py migrate --noinput
chown -R www-data: /data
uwsgi --ini /srv/uwsgi.ini &
exec nginx -g 'daemon off;'
