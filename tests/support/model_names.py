"""Names that Ollama takes, with the path of their manifest, and texts that it refuses."""

from __future__ import annotations

VALID = {
    "llama3": "registry.ollama.ai/library/llama3/latest",
    "deepseek-r1:8b": "registry.ollama.ai/library/deepseek-r1/8b",
    "user/model": "registry.ollama.ai/user/model/latest",
    "user/model:tag": "registry.ollama.ai/user/model/tag",
    "hf.co/org/repo:Q4_K_M": "hf.co/org/repo/Q4_K_M",
    "localhost:5000/library/x:y": "localhost:5000/library/x/y",
    "localhost:5000/library/x": "localhost:5000/library/x/latest",
    "http://localhost:5000/library/x:y": "localhost:5000/library/x/y",
    "https://example.com/ns/model:tag": "example.com/ns/model/tag",
    "odd scheme://example.com/ns/model": "example.com/ns/model/latest",
    "http:///ns/model": "registry.ollama.ai/ns/model/latest",
    "a..b:c..d": "registry.ollama.ai/library/a..b/c..d",
    "_x/_y:_z": "registry.ollama.ai/_x/_y/_z",
    "h:1:2/n/m": "h:1:2/n/m/latest",
    "q6_K:q6_k": "registry.ollama.ai/library/q6_K/q6_k",
    "a" * 80: f"registry.ollama.ai/library/{'a' * 80}/latest",
    f"{'h' * 350}/n/m:t": f"{'h' * 350}/n/m/t",
}
INVALID = [
    "", ":", "/", "//", "///", "a:", ":a", "a/", "/a", "a//b", "a/b/", "/a/b", "a/b/c/d", "a/b/c/d:e",
    "a b", "a\nb", "a\x00b", "ä", "模型", "a:b:c/d", "a:b/c", "x@sha256:00", "a/b:c:d", "..", ".", "../x",
    "x/../y", "../../etc/passwd", "a/..:b", "-a", ".a", "a:-b", "a:.b", "a.b/c", "-n/m", "host/-/m", "a\\b",
    "C:\\x", "a:b\\c", "a/b:", "~", "~root", "$(id)", "`id`", "a;b", "a|b", "a*", "a?", "[a]", "a%2fb", "a+b",
    "a\u200bb", "ſ", "a\r", " a", "a ", "a" * 81, f"{'n' * 81}/m", f"m:{'t' * 81}", f"{'h' * 351}/n/m", "http://m",
    "http://n/m:", "registry.ollama.ai/library/", "!MISSING!", "x:!MISSING!",
]  # fmt: skip
