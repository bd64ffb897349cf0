"""LoAd: lookahead adversarial learning with map aggregation (Jamali-Rad and Szabo 2022)."""
