"""params.yaml as frozen, validated types: one module per group, one reader."""
