"""The web app: a page on this machine that does everything without a command line.

    browser ─ guard ─▶ api_* (a router per subject) ─▶ folders · run_queue · listening ─▶ data · training · models
                                            log of the run ─ feed (server-sent events) ─▶ browser

It holds no training logic: it makes a `TrainingRequest`, trains with `training.runner`, and reads what a run has
written to its folder, so that a page opened later, or after a restart of the server, shows the same as one that was
open all along.
"""
