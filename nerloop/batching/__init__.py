"""The plan: which sentences make a step and who computes what; features kept on disk."""
