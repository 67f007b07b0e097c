"""An HTTP service for a tagger: `queue` forms batches, `guard` has the limits, `app` the routes, `server` runs it."""
