"""Store features on disk, and plan which sentences make a step and which process computes which of them."""
