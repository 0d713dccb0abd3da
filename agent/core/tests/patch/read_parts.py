#!/usr/bin/env python3
"""Reads recoded segments by sections 11 to 13 of agent/docs/SPEC-patch.md, RFC 8878 and RFC 1951 alone: none of the project's code, nothing
but the standard library, and read.py for the frames.
Usage: read_parts.py BASE CONTENT AT PARTS. Exits with 1 where the parts do not make the content from the base; AT is where the segment stands,
and a piece begins with it. It trusts what it reads. Numbers in comments are sections of RFC 8878 (zstd) and RFC 1951 (deflate)."""
import os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from read import Reader  # noqa: E402

class Forward:
    """Bits from the lowest of the first byte on."""
    def __init__(self, data, at=0): self.value, self.at, self.end = int.from_bytes(data, "little"), at, 8 * len(data)
    def peek(self, n): return self.value >> self.at & (1 << n) - 1
    def take(self, n):
        v = self.peek(n)
        self.at += n
        return v

class Backward:
    """Bits from the one below the highest one down; zeros beyond the end (4.2.2)."""
    def __init__(self, data): self.value = int.from_bytes(data, "little"); self.left = self.value.bit_length() - 1
    def peek(self, n): return self.value >> self.left - n & (1 << n) - 1 if self.left >= n else self.value << n - self.left & (1 << n) - 1
    def take(self, n):
        v = self.peek(n)
        self.left -= n
        return v

def backward(row):
    """What Backward reads as these (value, bits), in its order."""
    text = "1" + "".join(format(value, "0%db" % n) for value, n in row if n)
    return int(text, 2).to_bytes((len(text) + 7) // 8, "little")

# --- zstd: finite state entropy (4.1)
def description(data, at):
    """Counts, accuracy log, and where it ends."""
    bits = Forward(data[at:])
    log, counts = bits.take(4) + 5, []
    left = 1 << log
    while left > 0:
        most = left + 1
        wide = most.bit_length()
        few = (1 << wide) - 1 - most
        v = bits.peek(wide - 1)
        if v < few: bits.take(wide - 1)
        else:
            v = bits.take(wide)
            if v >= 1 << wide - 1: v -= few
        counts.append(v - 1)
        left -= abs(v - 1)
        if v == 1:
            while True:
                again = bits.take(2)
                counts += [0] * again
                if again < 3: break
    return counts, log, at + (bits.at + 7) // 8

class Table:
    def __init__(self, counts, log):
        size = 1 << log
        self.log, symbols, high = log, [None] * size, size - 1
        for s, c in enumerate(counts):
            if c < 0: symbols[high] = s; high -= 1
        place = 0
        for s, c in enumerate(counts):
            for _ in range(max(c, 0)):
                symbols[place] = s
                place = place + (size >> 1) + (size >> 3) + 3 & size - 1
                while place > high: place = place + (size >> 1) + (size >> 3) + 3 & size - 1
        following, self.states, self.of = [abs(c) for c in counts], [], {}
        for state, s in enumerate(symbols):
            x = following[s]
            following[s] += 1
            n = log - (x.bit_length() - 1)
            self.states.append((s, n, (x << n) - size))
            self.of.setdefault(s, []).append(state)
    def before(self, symbol, state):
        """The state of a symbol from which this one follows, and the bits that say so."""
        for st in self.of[symbol]:
            _, n, begins = self.states[st]
            if begins <= state < begins + (1 << n): return st, (state - begins, n)

def one(symbol): return Table([0] * symbol + [1], 0)

# --- zstd: Huffman codes (4.2.1)
class Code:
    def __init__(self, data, at):
        head, at = data[at], at + 1
        if head >= 128:
            count = head - 127
            weights = [data[at + n // 2] >> (4 if n % 2 == 0 else 0) & 15 for n in range(count)]
            at += (count + 1) // 2
        else:
            counts, log, begins = description(data, at)
            table, bits, weights = Table(counts, log), Backward(data[begins:at + head]), []
            states = [bits.take(log), bits.take(log)]
            while True:
                s, n, begins = table.states[states[0]]
                weights.append(s)
                states[0] = begins + bits.take(n)
                if bits.left < 0:
                    weights.append(table.states[states[1]][0])
                    break
                states.reverse()
            at += head
        total = sum(1 << w - 1 for w in weights if w)
        self.bits = total.bit_length()
        weights.append(((1 << self.bits) - total).bit_length())
        self.end, self.words, self.symbols, place = at, {}, [None] * (1 << self.bits), 0
        for w in range(1, self.bits + 1):
            for s, its in enumerate(weights):
                if its != w: continue
                self.words[s] = (place >> w - 1, self.bits + 1 - w)
                for i in range(1 << w - 1): self.symbols[place + i] = (s, self.bits + 1 - w)
                place += 1 << w - 1
    def decode(self, stream, count):
        bits, out = Backward(stream), bytearray()
        for _ in range(count):
            s, n = self.symbols[bits.peek(self.bits)]
            bits.left -= n
            out.append(s)
        return out
    def encode(self, literals): return backward([self.words[s] for s in literals])

# --- zstd: blocks (3.1.1.2, 3.1.1.3)
def lengths(least, plain, widths):
    table, begins = [], least
    for n in [0] * plain + widths:
        table.append((begins, n))
        begins += 1 << n
    return table
LITERALS = lengths(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
MATCHES = lengths(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
def code_of(table, length):
    code = max(c for c, (begins, _) in enumerate(table) if begins <= length)
    return code, (length - table[code][0], table[code][1])
USUAL = [Table([4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1], 6),
         Table([1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1], 5),
         Table([1, 4, 3, 2, 2, 2, 2, 2, 2] + [1] * 37 + [-1] * 7, 6)]

class Zstd:
    """What a block may take over from those before it."""
    def __init__(self): self.code, self.tables = None, [None, None, None]

    def literals_head(self, data, at):
        kind, size = data[at] & 3, data[at] >> 2 & 3
        value = int.from_bytes(data[at:at + 5], "little")
        if kind < 2:
            head, count = {0: (1, value >> 3 & 31), 2: (1, value >> 3 & 31), 1: (2, value >> 4 & 4095), 3: (3, value >> 4 & 0xfffff)}[size]
            return kind, head, count, count if kind == 0 else 1, False
        head, n = {0: (3, 10), 1: (3, 10), 2: (4, 14), 3: (5, 18)}[size]
        return kind, head, value >> 4 & (1 << n) - 1, value >> 4 + n & (1 << n) - 1, size > 0

    def sequences_head(self, data, at):
        """How many sequences, and where the head ends; reads the tables."""
        count, at = data[at], at + 1
        if count == 0: return 0, at
        if count == 255: count, at = data[at] + (data[at + 1] << 8) + 0x7f00, at + 2
        elif count > 127: count, at = (count - 128 << 8) + data[at], at + 1
        modes, at = data[at], at + 1
        for i in range(3):
            mode = modes >> 6 - 2 * i & 3
            if mode == 0: self.tables[i] = USUAL[i]
            elif mode == 1: self.tables[i], at = one(data[at]), at + 1
            elif mode == 2:
                counts, log, at = description(data, at)
                self.tables[i] = Table(counts, log)
        return count, at

    def open(self, data, at):
        """What the block there opens to, and where it ends (SPEC-patch, 12)."""
        head = int.from_bytes(data[at:at + 3], "little")
        kind, end = head >> 1 & 3, at + 3 + (head >> 3)
        if kind != 2: return data[at:(at + 4 if kind == 1 else end)], (at + 4 if kind == 1 else end)
        out, place = bytearray(data[at:at + 3]), at + 3
        kind, size, count, coded, four = self.literals_head(data, place)
        out += data[place:place + size]
        place += size
        rest = place + coded
        if kind < 2: out += data[place:rest]
        else:
            if kind == 2:
                self.code = Code(data, place)
                out += data[place:self.code.end]
                place = self.code.end
            if four:
                sizes = [int.from_bytes(data[place + 2 * i:place + 2 * i + 2], "little") for i in range(3)]
                place, each = place + 6, (count + 3) // 4
                for i in range(4):
                    to = place + sizes[i] if i < 3 else rest
                    out += self.code.decode(data[place:to], each if i < 3 else count - 3 * each)
                    place = to
            else: out += self.code.decode(data[place:rest], count)
        count, place = self.sequences_head(data, rest)
        out += data[rest:place]
        if count:
            (lit, off, mat), bits = self.tables, Backward(data[place:end])
            l, o, m = bits.take(lit.log), bits.take(off.log), bits.take(mat.log)
            for left in range(count, 0, -1):
                code = off.states[o][0]
                offset = (1 << code) + bits.take(code)
                begins, n = MATCHES[mat.states[m][0]]
                match = begins + bits.take(n)
                begins, n = LITERALS[lit.states[l][0]]
                length = begins + bits.take(n)
                for v in (length, match - 3): out += bytes([v]) if v < 255 else b"\xff" + v.to_bytes(3, "little")
                out += offset.to_bytes(3, "big")
                if left > 1:
                    l, m, o = (t.states[s][2] + bits.take(t.states[s][1]) for t, s in ((lit, l), (mat, m), (off, o)))
            assert bits.left == 0, "all bits of the sequences"
        return bytes(out), end

    def close(self, data, at):
        """The block that is opened there, and where that ends."""
        head = int.from_bytes(data[at:at + 3], "little")
        kind = head >> 1 & 3
        if kind != 2:
            end = at + 4 if kind == 1 else at + 3 + (head >> 3)
            return data[at:end], end
        out, place = bytearray(data[at:at + 3]), at + 3
        kind, size, count, coded, four = self.literals_head(data, place)
        out += data[place:place + size]
        place += size
        if kind < 2:
            out += data[place:place + coded]
            place += coded
        else:
            if kind == 2:
                self.code = Code(data, place)
                out += data[place:self.code.end]
                place = self.code.end
            literals = data[place:place + count]
            place += count
            if four:
                each = (count + 3) // 4
                streams = [self.code.encode(literals[i * each:(i + 1) * each]) for i in range(4)]
                out += b"".join(len(s).to_bytes(2, "little") for s in streams[:3]) + b"".join(streams)
            else: out += self.code.encode(literals)
        count, end = self.sequences_head(data, place)
        out += data[place:end]
        place = end
        if count == 0: return bytes(out), place
        sequences = []
        for _ in range(count):
            values = []
            for _ in range(2):
                v, place = data[place], place + 1
                if v == 255: v, place = int.from_bytes(data[place:place + 3], "little"), place + 3
                values.append(v)
            offset, place = int.from_bytes(data[place:place + 3], "big"), place + 3
            code = offset.bit_length() - 1
            sequences.append((code_of(LITERALS, values[0]), (code, (offset - (1 << code), code)), code_of(MATCHES, values[1] + 3)))
        updates, states = [[]], [t.of[s[0]][0] for t, s in zip(self.tables, sequences[-1])]
        for sequence in reversed(sequences[:-1]):
            steps = [t.before(s[0], state) for t, s, state in zip(self.tables, sequence, states)]
            states = [step[0] for step in steps]
            updates.append([steps[0][1], steps[2][1], steps[1][1]])
        row = [(state, t.log) for t, state in zip(self.tables, states)]
        for (l, o, m), update in zip(sequences, reversed(updates)): row += [o[1], m[1], l[1]] + update
        return bytes(out) + backward(row), place

# --- deflate (3.2)
REACH = lengths(1, 4, [n for n in range(1, 14) for _ in range(2)])
LENGTH = lengths(3, 8, [n for n in range(1, 6) for _ in range(4)])

class Words:
    def __init__(self, bits):
        self.read, self.write, word = {}, {}, 0
        for n in range(1, 16):
            word <<= 1
            for s, its in enumerate(bits):
                if its == n:
                    turned = int(format(word, "0%db" % n)[::-1], 2)
                    self.read[turned, n], self.write[s] = s, (turned, n)
                    word += 1
    def symbol(self, bits):
        n = next(n for n in range(1, 16) if (bits.peek(n), n) in self.read)
        return self.read[bits.take(n), n]

def codes(bits):
    """The two codes of the block that begins there."""
    bits.take(1)
    kind = bits.take(2)
    if kind == 1: return Words([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), Words([5] * 32)
    assert kind == 2, "a block with codes"
    words, reaches, count, of = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4, [0] * 19
    for s in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15][:count]: of[s] = bits.take(3)
    of, all = Words(of), []
    while len(all) < words + reaches:
        s = of.symbol(bits)
        if s < 16: all.append(s)
        elif s == 16: all += [all[-1]] * (3 + bits.take(2))
        else: all += [0] * (3 + bits.take(3) if s == 17 else 11 + bits.take(7))
    return Words(all[:words]), Words(all[words:])

def open_deflate(bits):
    """What the block that begins there opens to (SPEC-patch, 13)."""
    begins = bits.at
    words, reaches = codes(bits)
    head = bits.value >> begins & (1 << bits.at - begins) - 1
    head, literals, records, before, count = head.to_bytes((bits.at - begins + 7) // 8, "little"), bytearray(), bytearray(), 0, 0
    while True:
        s = words.symbol(bits)
        if s == 256: break
        if s < 256: literals.append(s); before += 1
        else:
            length = 258 if s == 285 else LENGTH[s - 257][0] + bits.take(LENGTH[s - 257][1])
            s = reaches.symbol(bits)
            reach = REACH[s][0] + bits.take(REACH[s][1])
            records += (bytes([before]) if before < 255 else b"\xff" + before.to_bytes(3, "little")) + bytes([length - 3]) + (reach - 1).to_bytes(2, "big")
            before, count = 0, count + 1
    return head + len(literals).to_bytes(3, "big") + count.to_bytes(3, "big") + bytes(literals + records)

def close_deflate(data, at):
    """The bits of the block that is opened there, the first last, and where that ends."""
    bits = Forward(data[at:])
    words, reaches = codes(bits)
    row = [(bits.value & (1 << bits.at) - 1, bits.at)]
    at += (bits.at + 7) // 8
    count, matches = int.from_bytes(data[at:at + 3], "big"), int.from_bytes(data[at + 3:at + 6], "big")
    literals, at = iter(data[at + 6:at + 6 + count]), at + 6 + count
    for _ in range(matches):
        before, at = data[at], at + 1
        if before == 255: before, at = int.from_bytes(data[at:at + 3], "little"), at + 3
        row += [words.write[next(literals)] for _ in range(before)]
        length, reach, at = data[at] + 3, int.from_bytes(data[at + 1:at + 3], "big") + 1, at + 3
        code, extra = (28, (0, 0)) if length == 258 else code_of(LENGTH, length)
        row += [words.write[257 + code], extra]
        code, extra = code_of(REACH, reach)
        row += [reaches.write[code], extra]
    row += [words.write[s] for s in literals] + [words.write[256]]
    return row, at

# --- parts (SPEC-patch, 11)
def number(data, at, n): return int.from_bytes(data[at:at + n], "little"), at + n

def main(base, content, at, parts):
    state, out, place = Reader(), bytearray(), 0
    while len(out) < len(content):
        kind, place = number(parts, place, 1)
        length, place = number(parts, place, 3)
        size, place = number(parts, place, 3)
        if kind == 0:
            out += state.read(parts[place:place + size], base, at + len(out), length)
            place += size
            continue
        bit, place = number(parts, place, 1) if kind == 2 else (0, place)
        makes, place = number(parts, place, 3)
        sources, place = number(parts, place, 1)
        opened = b""
        for _ in range(sources):
            begins, place = number(parts, place, 5)
            count, place = number(parts, place, 1 if kind == 1 else 3)
            bytes_, place = number(parts, place, 3)
            source = b""
            if kind == 1:
                zstd = Zstd()
                for _ in range(count):
                    block, begins = zstd.open(base, begins)
                    source += block
            else:
                bits = Forward(base[begins // 8:(begins + count + 7) // 8], begins % 8)
                while bits.at < begins % 8 + count: source += open_deflate(bits)
            assert len(source) == bytes_, "a source opens to what is said"
            opened += source
        items = bytes(state.read(parts[place:place + size], opened, 0, makes))
        place, at_item = place + size, 0
        if kind == 1:
            zstd, made = Zstd(), bytearray()
            while at_item < len(items):
                what = items[at_item]
                if what == 0:
                    count = int.from_bytes(items[at_item + 1:at_item + 3], "little")
                    made += items[at_item + 3:at_item + 3 + count]
                    at_item += 3 + count
                else:
                    if what == 2: zstd = Zstd()
                    block, at_item = zstd.close(items, at_item + 1)
                    made += block
        else:
            text = [format(out.pop() & (1 << bit) - 1, "0%db" % bit)[::-1]] if bit else []  # the lowest bit first
            filled = bit
            def put(value, n):
                nonlocal filled
                if n: text.append(format(value & (1 << n) - 1, "0%db" % n)[::-1]); filled += n
            while at_item < len(items):
                what = items[at_item]
                if what == 0:
                    put(0, -filled % 8)
                    count = int.from_bytes(items[at_item + 1:at_item + 3], "little")
                    for byte in items[at_item + 3:at_item + 3 + count]: put(byte, 8)
                    at_item += 3 + count
                elif what == 2:
                    put(items[at_item + 2], items[at_item + 1])
                    at_item += 3
                else:
                    row, at_item = close_deflate(items, at_item + 1)
                    for value, n in row: put(value, n)
            put(0, -filled % 8)
            text = "".join(text)
            made = int(text[::-1], 2).to_bytes(len(text) // 8, "little")
            length += bit > 0
        assert len(made) == length, "a part makes what is said: %d, not %d" % (length, len(made))
        out += made
    assert place == len(parts), "nothing follows the last part"
    if out != content: sys.exit("refused: it makes other bytes, first at %d" % next(i for i, (a, b) in enumerate(zip(out, content)) if a != b))

base, content, at, parts = sys.argv[1:]
main(*(open(name, "rb").read() for name in (base, content)), int(at), open(parts, "rb").read())
