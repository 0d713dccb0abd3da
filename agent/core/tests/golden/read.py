#!/usr/bin/env python3
"""Reads the golden vectors by agent/docs/SPEC-bundle.md alone: none of the project's code, nothing but the standard library.
Usage: read.py FOLDER. Prints what it found; exits with 1 and "refused: ..." at the first thing that is not as specified.
Numbers in comments are sections of SPEC-bundle. Slow and not constant-time: it verifies, it never signs."""
import pathlib, sys
from hashlib import sha256, sha512

def need(true, why):
    if not true: raise SystemExit(print("refused:", why, file=sys.stderr) or 1)

# Ed25519, RFC 8032 section 5.1, in extended coordinates (X, Y, Z, T).
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)
def mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1: q = add(q, p)
        p, s = add(p, p), s >> 1
    return q
def encode(p):
    z = pow(p[2], P - 2, P)
    return (p[1] * z % P | (p[0] * z % P & 1) << 255).to_bytes(32, "little")
def decode(b):
    y = int.from_bytes(b, "little"); sign, y = y >> 255, y & (1 << 255) - 1
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P: x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (v * x * x - u) % P or (x == 0 and sign): return None
    if x & 1 != sign: x = P - x
    return (x, y, 1, x * y % P)
def sound(p): return p is not None and encode(mul(8, p)) != encode((0, 1, 1, 0))
BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
def valid(key, message, signature):  # 1, proving
    r, s, a = signature[:32], int.from_bytes(signature[32:], "little"), decode(key)
    if s >= L or not sound(a) or not sound(decode(r)): return False
    k = int.from_bytes(sha512(r + key + message).digest(), "little") % L
    return encode(add(mul(s, BASE), mul(L - k, a))) == r

class Reader:  # 2
    def __init__(self, data): self.data, self.at = data, 0
    def take(self, n):
        need(0 <= n <= len(self.data) - self.at, "cut short"); self.at += n
        return self.data[self.at - n:self.at]
    def fixed(self, n): return int.from_bytes(self.take(n), "little")
    def varint(self, bits=64):
        out = shift = 0
        while True:
            byte = self.take(1)[0]; out |= (byte & 127) << shift; shift += 7
            if byte < 128: break
        need(out < 1 << bits, "number too large"); return out
    def text(self, most):
        n = self.varint(); need(n <= most, "text too long"); return self.take(n).decode()
    def list(self, most, one):
        n = self.varint(); need(n <= most, "list too long"); return [one() for _ in range(n)]
    def option(self, one):
        tag = self.take(1)[0]; need(tag < 2, "option"); return one() if tag else None
    def enum(self, count):
        n = self.varint(32); need(n < count, "unknown enum number"); return n
    def end(self): need(self.at == len(self.data), "bytes after the end")

CONTEXT = {1: b"mainstay/1 trust root\0", 2: b"mainstay/1 manifest\0", 3: b"mainstay/1 desired state\0"}
def envelope(data):  # 1
    r = Reader(data)
    need(r.take(4) == b"MSE1", "envelope magic"); kind, n = r.take(2)
    need(kind in CONTEXT and 1 <= n <= 8 and r.fixed(2) == 0, "envelope header"); length = r.fixed(4)
    need(1 <= length <= 12288, "body length")
    signatures = [(r.take(8), r.take(64)) for _ in range(n)]; ids = [i for i, _ in signatures]
    need(ids == sorted(set(ids)), "order of key ids"); body = r.take(length); r.end()
    return kind, signatures, body
def prove(root, data, kind):  # 1: the kind's role has the kind's place
    found, signatures, body = envelope(data); need(found == kind, "kind")
    threshold, bits = root["roles"][kind - 1]
    members = {sha256(k).digest()[:8]: k for i, k in enumerate(root["keys"]) if bits >> i & 1}
    count = sum(i in members and valid(members[i], CONTEXT[kind] + body, s) for i, s in signatures)
    need(threshold and count >= threshold, f"{count} of {threshold} signatures"); return body
def body_of(data):
    r = Reader(data); need(r.take(1) == b"\1", "body version"); return r
def trust_root(body):  # 3
    r = body_of(body)
    root = dict(fleet=r.text(48), version=r.varint(32), keys=r.list(16, lambda: r.take(32)))
    root["roles"] = [(r.take(1)[0], r.varint(16)) for _ in range(4)]; r.end()
    need(all(sound(decode(k)) for k in root["keys"]) and root["version"], "keys and version"); return root
def manifest(body):  # 4
    r = body_of(body); digest = lambda: r.take(32); u64 = r.varint
    route = lambda: dict(base=(digest(), u64()) if r.enum(2) else None, table=digest(), bytes=u64())
    artifact = lambda: dict(cls=r.text(16), size=u64(), digest=digest(), segments=digest(), routes=r.list(8, route))
    m = dict(compatible=r.text(64), version=r.text(48), security=r.varint(32), artifacts=r.list(8, artifact),
             tries=r.take(1)[0], deadline=r.varint(32), required=r.list(16, lambda: r.text(48)),
             not_before=r.option(u64), expires=r.option(u64), source=r.text(128), commit=r.text(64),
             builder=r.text(128), sbom=r.option(digest), meta=r.list(16, lambda: (r.text(32), r.text(128))))
    r.end(); return m
def desired(body):  # 8
    r = body_of(body)
    d = dict(fleet=r.text(48), group=r.text(50), seq=r.varint(), version=r.text(48), manifest=r.take(32), action=r.enum(3),
             share=r.varint(16), window=r.option(lambda: (r.varint(), r.varint(32))), expires=r.option(r.varint),
             signed_at=r.varint(), salt=r.varint(32))
    r.end(); return d

def page(data, name, magic, *numbers):  # 5
    need(name is None or sha256(data).digest() == name, "an object's digest is not its name")
    r = Reader(data); need(r.take(8) == magic + b"\1\0\0\0", "page header")
    need([r.fixed(4) for _ in numbers] == list(numbers), "page numbers"); return r
def sequence(block, out):  # one block of RLE literals and one sequence without literals, whose codes are RLE (RFC 8878, 3.1.1.3)
    head = block.fixed(2); need(head & 15 == 5, "literals"); literals = block.take(1) * (head >> 4)
    need(block.take(5) == bytes((1, 0x54, 0, 2, 45)), "sequences"); bits = bin(block.fixed(2))[3:]; block.end()
    offset, length = 4 + int(bits[:2], 2) - 3, 515 + int(bits[2:], 2); need(len(bits) == 11 and offset <= len(out), "offset")
    for _ in range(length): out += out[-offset:][:1]
    return out + literals
def zstd(frame, size, prefix=b""):  # RFC 8878: as much of it as the vectors need (single segment; raw, RLE and such blocks)
    r, out = Reader(frame), prefix; need(r.take(5) == b"\x28\xb5\x2f\xfd\xa0" and r.fixed(4) == size, "zstd header")
    last = 0
    while not last:
        h = r.fixed(3); last, kind, n = h & 1, h >> 1 & 3, h >> 3; need(kind < 3 and n <= 131072, "zstd block")
        out = sequence(Reader(r.take(n)), out) if kind == 2 else out + (r.take(1) * n if kind else r.take(n))
    r.end(); out = out[len(prefix):]; need(len(out) == size, "zstd size"); return out
def prefix(out):  # 5: of what stands behind `out`
    need(len(out) >= 262144 and out[-262144:][:4] != b"\x37\xa4\x30\xec", "prefix"); return out[-262144:]
def content(a, take):  # 5, 6: one artifact; take(kind) gives the file's next object
    count = -(-a["size"] // 262144); runs = -(-count // 512); out = b""
    route = [r for r in a["routes"] if r["base"] is None]; need(len(route) == 1, "one full route")
    tables = [page(take(2), name, b"MSTB", runs, 0) for name in (a["segments"], route[0]["table"])]
    for run in range(runs):
        first, n = run * 512, min(512, count - run * 512)
        segments = page(take(3), tables[0].take(32), b"MSSP", first, n)
        r = page(take(4), tables[1].take(32), b"MSRP", first, n); pieces = r.fixed(4); need(r.fixed(4) == 0, "zero")
        entries = [(r.take(1)[0], r.fixed(3)) for _ in range(n)]; row = b""
        for name, length in [(r.take(32), r.fixed(4)) for _ in range(pieces)]:
            piece = take(5); need(sha256(piece).digest() == name and len(piece) == length, "piece"); row += piece
        r.end(); row = Reader(row)
        for encoding, length in entries:
            size = min(262144, a["size"] - len(out)); data = row.take(length); need(encoding in (0, 1, 2, 5), "encoding")
            data = {0: lambda: bytes(size), 1: lambda: data, 2: lambda: zstd(data, size), 5: lambda: zstd(data, size, prefix(out))}[encoding]()
            need(len(data) == size and sha256(data).digest() == segments.take(32), "segment"); out += data
        row.end(); segments.end()
    [t.end() for t in tables]; need(sha256(out).digest() == a["digest"], "content")
    for delta in a["routes"]:
        if delta["base"]: delta_route(a, delta, out, count, runs, take)
    return out
def delta_route(a, route, out, count, runs, take):  # 5, 6: what it makes must be what the full route made
    base, base_bytes = route["base"]; table = page(take(2), route["table"], b"MSTB", runs, 0); total = 0
    need(base_bytes <= 1 << 36 and base_bytes, "base")
    for run in range(runs):
        first, n = run * 512, min(512, count - run * 512)
        r = page(take(9), table.take(32), b"MSDP", first, n); pieces, spans = r.fixed(4), r.fixed(4); kinds = []
        for _ in range(spans):
            kind, number = r.take(1)[0], r.fixed(2); need(kind < 6 and number, "span"); kinds += [kind] * number
        need(len(kinds) == n, "spans"); size = lambda i: min(262144, a["size"] - (first + i) * 262144)
        lengths = [r.fixed(3) if k in (2, 4, 5) else size(i) if k == 1 else 0 for i, k in enumerate(kinds)]
        proofs = [r.take(16) if k else None for k in kinds]; row = b""
        for name, length in [(r.take(32), r.fixed(4)) for _ in range(pieces)]:
            piece = take(5); need(sha256(piece).digest() == name and len(piece) == length, "piece"); row += piece
        r.end(); row = Reader(row)
        for i, (kind, length, proof) in enumerate(zip(kinds, lengths, proofs)):
            at = (first + i) * 262144; data = row.take(length); total += length; segment = out[at:at + size(i)]
            need(proof is None or sha256(segment).digest()[:16] == proof, "delta digest")
            made = {0: lambda: bytes(size(i)), 1: lambda: data, 2: lambda: zstd(data, size(i)), 5: lambda: zstd(data, size(i), prefix(out[:at]))}
            need(kind in (3, 4) or segment == made[kind](), "delta segment")
        row.end()
    table.end(); need(total == route["bytes"], "delta bytes")

def main(folder):
    file = lambda name: bytes.fromhex((pathlib.Path(folder) / (name + ".hex")).read_text())
    root = trust_root(envelope(file("root-1"))[2]); prove(root, file("root-1"), 1)  # 3, anchor
    after = trust_root(prove(root, file("root-2"), 1)); prove(after, file("root-2"), 1)  # 3, rotation
    need((after["fleet"], after["version"]) == (root["fleet"], root["version"] + 1), "rotation")
    d = desired(prove(after, file("desired"), 3)); need(d["fleet"] == after["fleet"], "fleet")
    r = Reader(file("bundle")); need(r.take(16) == b"MAINSTAY-BUNDLE1", "bundle magic")  # 6
    objects = []
    def take(kind):
        need(r.take(4) == bytes([kind, 0, 0, 0]), "object header"); n = r.fixed(4)
        need(n <= {1: 12876, 255: 0}.get(kind, 98304), "object length"); objects.append(r.take(n)); return objects[-1]
    m = manifest(prove(after, take(1), 2)); name = sha256(objects[0]).digest()
    need(d["manifest"] == name and file("manifest") == objects[0], "the desired manifest")
    print(name.hex(), m["compatible"], m["version"], "for", d["group"], "share", d["share"])
    for a in m["artifacts"]: print(a["cls"], len(content(a, take)), "bytes", a["digest"].hex())
    take(255); need(all(file(n) in objects for n in ("table", "segment-page", "route-page", "delta-page")), "pages")
    print("all agree")

sys.stdout.reconfigure(encoding="utf-8")
main(sys.argv[1])
