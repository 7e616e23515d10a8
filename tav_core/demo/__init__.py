"""The demo world: pictures with a known truth, so that an edit can be measured without a learned judge."""
