#!/usr/bin/env python3
"""Reads patch frames by agent/docs/SPEC-patch.md alone: none of the project's code, nothing but the standard library.
Usage: read.py BASE CONTENT AT FRAME. Exits with 1 where the frame does not make the content from the base; AT is where its segment
stands. Numbers in comments are sections of SPEC-patch. It reads a megabyte in a minute, and trusts what it reads."""
import sys

M32 = 0xffffffff
def s32(x): return (x & M32) - (x >> 31 & 1) * 2**32
def rotl(x, n): return (x << n | x >> 32 - n) & M32

# 3. Histories
MOST = {0: 40, 1: 20, 2: 10, 3: 7, 4: 5, 5: 5}
def exists(z, o): return max(z, o) <= MOST.get(min(z, o), -1)
HISTORIES = [(0, 0, 0)] + [(z, o, l) for z in range(41) for o in range(41) for l in (0, 1) if (o if l else z) and exists(z, o)]
NUMBER = {h: n for n, h in enumerate(HISTORIES)}
def number_of(z, o, last):
    while not exists(z, o):
        if z > o: z -= 1
        else: o -= 1
    return NUMBER[z, o, last]
def less(n): return n // 2 + 1 if n > 2 else n
NEXT = [(number_of(z + 1, less(o), 0), number_of(less(z), o + 1, 1)) for z, o, _ in HISTORIES]
def aged(z, o, last):
    if z + o <= 2: return 0
    z, o = z // 2, o // 2
    return number_of(z, o, 1 if z == 0 else 0 if o == 0 else last)
AGED = [aged(*h) for h in HISTORIES]
MEANING = [32768] + [65535 * (10 * o + 4) // (10 * z + 10 * o + 8) for z, o, _ in HISTORIES[1:]] + [32768] * (256 - len(HISTORIES))

# 4. Model
T = [1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608, 3785, 3902, 3976, 4022,
     4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095]
def squash(x):
    if not -2048 < x < 2048: return 4095 if x > 0 else 0
    k, r = x + 2048 >> 7, x + 2048 & 127
    return T[k] * (128 - r) + T[k + 1] * r + 64 >> 7
STRETCH, x = [], -2047
for j in range(2048):
    while x <= 2047 and squash(x) >> 1 < j: x += 1
    STRETCH.append(min(x, 2047))
def hash(n, a, b):
    m = ((a * 0x9e3779b1 ^ b) + n * 0x7feb352d) * 0x85ebca6b & M32
    return (m ^ m >> 15) * 0x2c1b3c6d & M32

class Reader:
    """The state, which lasts over the frames of a piece."""
    def __init__(self):
        self.slots = [(0, 0)] * 57344
        self.meanings = [MEANING[:] for _ in range(27)]
        self.weights = [[26000] * 3 for _ in range(192)]
        self.kinds = self.length = self.base_end = self.content_end = self.last_transform = self.address_shift = self.anchor = 0
        self.gaps, self.map, self.bias = [0, 0, 0], [], 0
    def read(self, frame, base, at, bytes):
        self.frame, self.next, self.low, self.high, self.window = frame, 0, 0, M32, 0
        for _ in range(4): self.window = self.window << 8 | self.byte()
        self.base, self.at, self.out = base, at, bytearray()
        while len(self.out) < bytes: self.operation()
        assert len(frame) <= self.next <= len(frame) + 4, "cut short, or longer than it says"
        return self.out

    # 2. Coder
    def byte(self):
        self.next += 1
        return self.frame[self.next - 1] if self.next <= len(self.frame) else 0
    def code(self, p):
        width = self.high - self.low
        middle = self.low + (width >> 16) * p + ((width & 0xffff) * p >> 16)
        bit = self.window <= middle
        if bit: self.high = middle
        else: self.low = middle + 1
        self.narrowed()
        return int(bit)
    def even(self):
        width = self.high - self.low
        if width < 65536: return sum(self.code(32768) << 7 - place for place in range(8))
        part = width >> 8
        v = min((self.window - self.low) // part, 255)
        self.low = self.low + v * part
        self.high = self.low + part - 1
        self.narrowed()
        return v
    def narrowed(self):
        while self.low >> 24 == self.high >> 24:
            self.low, self.high = self.low << 8 & M32, (self.high << 8 | 255) & M32
            self.window = (self.window << 8 | self.byte()) & M32

    # 4. Model
    def bit(self, contexts, node, meaning, mixer):
        said, weights, total = [], self.weights[mixer], 0
        for i, context in enumerate(contexts):
            place, check = (context >> 16) * 57344 >> 16 ^ node, context & 255
            history = self.slots[place][0] if self.slots[place][1] == check else 0
            said.append((place, check, history, STRETCH[self.meanings[meaning + i][history] >> 5]))
            total += said[-1][3] * weights[i] >> 8
        q = squash(total >> 8)
        bit = self.code(16 * max(q, 1) + 8)
        error = 14 * (4096 * bit - q)
        for i, (place, check, history, stretched) in enumerate(said):
            weights[i] = max(-524288, min(524288, weights[i] + (stretched * error + 8192 >> 14)))
            values = self.meanings[meaning + i]
            values[history] += 65535 * bit - values[history] >> 7
            found, owner = self.slots[place]
            if owner != check and found and AGED[found]: self.slots[place] = (AGED[found], owner)
            else: self.slots[place] = (NEXT[history][bit], check)
        return bit

    # 5. Numbers
    def symbol(self, bits, contexts, meaning, mixer):
        node = 1
        for d in range(bits): node = node << 1 | self.bit(contexts, node, meaning, mixer + d)
        return node - (1 << bits)
    def number(self, contexts, meaning, mixer):
        b = 0
        while b < 31 and self.bit(contexts, b, meaning, mixer + min(b, 5)): b += 1
        below = [rotl((c ^ b + 1) * 0x9e3779b1 & M32, 16) for c in contexts]
        v = 1
        for i in range(b):
            v = v << 1 | (self.bit(below, v, meaning + len(contexts), mixer + 6) if i < 7 else self.code(32768))
        return v - 1
    def signed(self, tag):
        high = self.number([hash(5, tag, 0)], 10, 24)
        low = self.number([hash(6, tag, int(high > 0))], 12, 32)
        assert low < 1 << 24, "a low part of 24 bits"
        z = high << 24 | low
        return z >> 1 ^ -(z & 1)

    # 6. Kind, length and place; 8. New bytes
    def operation(self):
        kind = self.symbol(2, [hash(1, self.kinds & 3, 0), hash(2, self.kinds & 255, 0)], 0, 0)
        self.kinds = (self.kinds << 2 | kind) & M32
        if kind == 3: return self.read_map()
        length = self.number([hash(3, kind, 0), hash(4, kind, self.length.bit_length())], 6, 16)
        self.length, content = length, self.at + len(self.out)
        if kind == 2:
            one = two = 0
            stored = self.symbol(1, [hash(19, length.bit_length() - 1, 0)], 26, 176)
            for _ in range(length):
                if stored: new = self.even()
                else: new = self.symbol(8, [hash(16, 0, 0), hash(17, one, 0), hash(18, two << 8 | one, 0)], 14, 40)
                self.out.append(new)
                one, two = new, one
            return
        at = self.base_end + content - self.content_end + self.signed(16 + kind)
        transform = address = 0
        if kind == 1:
            transform = self.symbol(3, [hash(7, self.last_transform, 0), hash(8, 0, 0)], 2, 2)
            self.last_transform = transform
            if transform:
                self.address_shift += self.signed(32)
                address = at + self.address_shift & M32
            if transform == 5: self.anchor = self.anchor + self.signed(33) & M32
        assert 0 <= at and at + length <= len(self.base) and length, "within the base"
        made = bytearray(self.base[at:at + length])
        self.base_end, self.content_end = at + length, content + length
        if kind == 1:
            self.apply(transform, made, address)
            self.differences(transform, made, address if transform else at)
        self.out += made

    # 7. Differences
    def differences(self, t, made, begins):
        at, last, k = 0, 0, [3, 0, 0, 7, 3, 3, 3, 3][t]
        while at < len(made):
            g1, g2, g3 = (min(gap, 255) for gap in self.gaps)
            q = 8 * t + (begins + at & k)
            gap = self.number([hash(10, t, g3 << 16 | g2 << 8 | g1), hash(11, q, last), hash(12, q, 0)], 20, 112 + 8 * t)
            self.gaps, at, g1 = [gap] + self.gaps[:2], at + gap, min(gap, 255)
            if at >= len(made): return
            q = 8 * t + (begins + at & k)
            last = self.symbol(8, [hash(13, q, last << 8 | min(g1, 3)), hash(14, q, g1), hash(15, q, 0)], 17, 48 + 8 * t)
            made[at] = made[at] + last & 255
            at += 1

    # 9. Maps
    def read_map(self):
        count, self.bias = self.number([hash(9, 0, 0)], 4, 8), self.signed(48)
        self.map, start, shift = [], 0, 0
        for _ in range(count):
            start, shift = start + self.signed(49) & M32, s32(shift + self.signed(50))
            self.map.append((start, shift))
    def shift(self, address):
        before = [shift for start, shift in self.map if start <= address & M32]
        return before[-1] if 0 < len(before) < len(self.map) else None

    # 10. Transforms
    def apply(self, t, b, address):
        moved, n = self.shift(address), len(b)
        if moved is None: return
        def get(at): return int.from_bytes(b[at:at + 4], "little")
        def put(at, value): b[at:at + 4] = (value & M32).to_bytes(4, "little")
        def follow(at, origin, moved):
            """The distance at a place, from an origin; None where its target has no shift."""
            d = s32(get(at))
            shift = self.shift(origin + d)
            return None if shift is None else (d, d + shift - moved)
        if t in (1, 2):
            i = 0
            while n - i >= 5:
                if b[i] in (0xe8, 0xe9): field = i + 1
                elif n - i >= 6 and b[i] == 0x0f and b[i + 1] & 0xf0 == 0x80: field = i + 2
                elif t == 2 and b[i] & 0xc7 == 5 and i > 0: field = i + 1
                else: field = 0
                new = follow(field, address + field + 4, moved) if field else None
                if new and abs(new[0]) < 1 << 28:
                    put(field, new[1])
                    i = field + 4
                else: i += 1
        elif t == 3:
            for at in range(-address % 8, n - 7, 8):
                value = int.from_bytes(b[at:at + 8], "little")
                target = value - self.bias % 2**64
                if 0x100 <= target < 2**32 and self.shift(target) is not None:
                    b[at:at + 8] = ((value + self.shift(target)) % 2**64).to_bytes(8, "little")
        elif t == 4:
            for at in range(-address % 4, n - 3, 4):
                new = follow(at, address + at, moved)
                if new and abs(new[0]) > 64: put(at, new[1])
        elif t == 5:
            for at in range(-address % 4, n - 3, 4):
                new = follow(at, self.anchor, self.shift(self.anchor) or 0)
                if new: put(at, new[1])
        elif t == 6: self.arm64(b, address, moved, get, put)
        elif t == 7:
            at = -address % 4
            while at + 12 <= n:
                size, back, new = get(at), get(at + 4), follow(at + 8, address + at + 8, moved)
                header = self.shift(address + at + 4 - back)
                if new and header is not None and 12 <= size < 0x400 and size % 4 == 0 and back % 4 == 0 and back:
                    put(at + 4, back + moved - header)
                    put(at + 8, new[1])
                    at += 4 + size
                else: at += 4

    def arm64(self, b, address, moved, get, put):
        def distance(word): return (word >> 5 & 0x7ffff) << 2 | word >> 29 & 3
        def signed21(d): return d - (d >> 20 << 21)
        def with21(word, d): return word & 0x9f00001f | (d & 3) << 29 | (d >> 2 & 0x7ffff) << 5
        pages = {}
        for at in range(-address % 4, len(b) - 3, 4):
            word, here = get(at), address + at & M32
            if word & 0x7c000000 == 0x14000000:
                d = s32(word << 6) >> 4
                if self.shift(here + d) is not None:
                    put(at, word & 0xfc000000 | (d + self.shift(here + d) - moved & M32) >> 2 & 0x3ffffff)
            elif word & 0x9f000000 == 0x10000000:
                d = signed21(distance(word))
                if self.shift(here + d) is not None: put(at, with21(word, d + self.shift(here + d) - moved))
            elif word & 0x9f000000 == 0x90000000:
                pages[word & 31] = at, (here & -4096) + (signed21(distance(word)) << 12) & M32
            elif word & 0xffc00000 == 0x91000000 or word & 0x3b000000 == 0x39000000:
                scale = word >> 30 if word & 0x3b000000 == 0x39000000 else 0
                if word & 0x3b000000 == 0x39000000 and word >> 26 & 1 and word >> 23 & 1 and word >> 30 == 0: scale = 4
                if word >> 5 & 31 not in pages: continue
                place, page = pages[word >> 5 & 31]
                target = page + ((word >> 10 & 0xfff) << scale) & M32
                if self.shift(target) is None: continue
                new, there = target + self.shift(target) & M32, address + place + moved & M32
                put(place, with21(get(place), s32((new & -4096) - (there & -4096)) >> 12))
                put(at, word & ~(0xfff << 10) | (new & 0xfff) >> scale << 10)

if __name__ == "__main__":
    base, content, at, frame = sys.argv[1:]
    base, content, frame = (open(name, "rb").read() for name in (base, content, frame))
    made = Reader().read(frame, base, int(at), len(content))
    if made != content: sys.exit("refused: it makes other bytes, first at %d" % next(i for i, (a, b) in enumerate(zip(made, content)) if a != b))
