"""Secrets whose shapes detect-secrets does not know, or knows half: newer keys and tokens, JSON Web Tokens."""

SHAPES: tuple[tuple[str, str, str], ...] = (
    ("JSON Web Token", r"eyJ", r"eyJ[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_.+/=-]+)?"),
    (
        "AWS Secret Key",
        r"(?i:secret_?(?:access_?)?key)[\"'\s\x0b:=]",
        r"(?i:\b(?:aws_?)?secret_?(?:access_?)?key[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[A-Za-z0-9/+]{40}",
    ),
    ("GitHub Token", r"github_pat_", r"github_pat_[A-Za-z0-9_]{40,}"),
    ("Slack Token", r"xox[cde][.-]|xapp-", r"\bxox[cde][.-][A-Za-z0-9%.-]{20,}|\bxapp-[0-9]-[A-Za-z0-9-]{20,}"),
    ("OpenAI Token", r"sk-(?:proj|svcacct|admin)-", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}"),
    ("Anthropic Token", r"sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    (
        "Google Key",
        r"AIza|ya29\.|GOCSPX-",
        r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}",
    ),
    ("Hugging Face Token", r"hf_[A-Za-z0-9]{8}", r"hf_[A-Za-z0-9]{30,}"),
    ("Stripe Access Key", r"[rs]k_test_|whsec_", r"\b[rs]k_test_[0-9A-Za-z]{24,}|\bwhsec_[0-9A-Za-z+/=]{24,}"),
    ("NPM tokens", r"npm_[A-Za-z0-9]{8}", r"npm_[A-Za-z0-9]{36}"),
    ("DigitalOcean Token", r"do[opr]_v1_", r"do[opr]_v1_[0-9a-f]{64}"),
    ("Databricks Token", r"dapi[0-9a-f]{8}", r"dapi[0-9a-f]{32}"),
    ("Vault Token", r"hv[sbr]\.[A-Za-z0-9_-]{8}", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("Shopify Token", r"shp(?:at|ca|pa|ss)_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("Docker Token", r"dckr_[op]at_", r"dckr_[op]at_[A-Za-z0-9_-]{20,}"),
    ("Grafana Token", r"gl(?:sa|c)_", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    ("age Key", r"AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    (
        "Basic Auth Credentials",
        r"://[^\s:/?#@\"'<>{}]*:[^\s/\"'<>{}]+@",
        r"://[^\s:/?#@\"'<>{}]{0,128}:[^\s/\"'<>{}]{3,256}@(?=[\w\[])",
    ),
    (
        "HTTP Authorization",
        r"(?i:authorization[\"']?[\s\x0b]{0,3}[:=])",
        r"(?i:\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3})[A-Za-z0-9._~+/=-]{12,}",
    ),
)
"""Type; what stands in every one, as RE2 reads it; and the pattern itself, of ASCII."""
