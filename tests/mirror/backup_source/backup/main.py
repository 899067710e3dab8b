print("--backup-id")
