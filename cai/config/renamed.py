"""Keys that had another name once: an old one is refused with its new one, for it would otherwise say nothing."""

# Old dotted key -> the key that stands in its section now, and what else to know.
RENAMED: dict[str, tuple[str, str]] = {
    "rl.kl": ("kl_coef", "where method is dpo: beta"),
    "rl.clip": ("cliprange", ""),
    "rl.value_clip": ("cliprange_value", ""),
    "rl.value_weight": ("vf_coef", ""),
    "rl.gae_lambda": ("lam", ""),
    "rl.no_eos_penalty": ("missing_eos_penalty", ""),
}
