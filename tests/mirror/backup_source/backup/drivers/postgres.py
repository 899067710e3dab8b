"""What a driver calls: pg_basebackup -U."""
