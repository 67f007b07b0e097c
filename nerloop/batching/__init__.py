"""Features on disk, and the plan: which sentences make a step, and which process computes which of them."""
