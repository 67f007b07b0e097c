"""An HTTP service around a tagger: `queue` batches, `guard` limits, `app` has the routes, `server` runs it."""
