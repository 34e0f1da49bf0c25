"""The new application with a deadline for a busy machine, which is no part of what is compared."""

from dataclasses import replace

from slowapi_new import app

app.settings = replace(app.settings, deadline=20.0)
