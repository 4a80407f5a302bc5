/* The fast lane of the emulated Pico: rp2040py's instructions of ARMv6-M that are about registers and memory alone.

setup/emulator.py puts this into rp2040py's _simulator.c, whose loop calls thumb_run() before each instruction that it
executes itself. Left to rp2040py, which then finds the board as if it had executed all by itself: interrupts and what
raises, masks or returns from them, waiting, breakpoints, special registers, addresses that are neither RAM nor flash
nor ROM, and the instructions around an alarm. Cycles, flags and their oddities are rp2040py's, not the processor's:
host_tests/test_emulator_lanes.py has both execute each opcode. Nothing here can fail or calls Python.
*/

typedef struct __pyx_obj_8rp2040py_6native_15_cortex_m0_core_CortexM0Core ThumbCore;
typedef struct __pyx_obj_8rp2040py_6native_7_rp2040_RP2040 ThumbChip;
typedef struct __pyx_obj_8rp2040py_6native_17_simulation_clock_SimulationClock ThumbClock;

/* Which core it is, of two, and only the first one runs: RP2040 datasheet 2.3.1.1. MicroPython asks all the time */
#define THUMB_CPUID 0xD0000000u

enum { THUMB_AT_ONCE = 4096, THUMB_LONGEST = 16 }; /* instructions; cycles of one, at most */

static long thumb_ran; /* how many instructions the last call executed */

static inline uint8_t *thumb_ram(ThumbChip *chip, uint32_t address, uint32_t size) {
    uint32_t at = address - 0x20000000u;
    return at <= chip->ram_byte_size - size ? (uint8_t *)chip->_sram.data + at : NULL;
}

static inline uint8_t *thumb_memory(ThumbChip *chip, uint32_t address, uint32_t size) {
    uint32_t at = address - 0x10000000u;
    if (at <= chip->flash_byte_size - size) return (uint8_t *)chip->_flash.data + at;
    /* rp2040py reads its ROM by words */
    if (address <= chip->bootrom_byte_size - size && !(address & (size > 2 ? 3 : size - 1)))
        return (uint8_t *)chip->_bootrom.data + address;
    return thumb_ram(chip, address, size);
}

static inline uint32_t thumb_u16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t thumb_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Run while all is plain, until shortly before the next alarm: the clock goes on, and nobody else's time comes. */
static long thumb_run(ThumbCore *core, ThumbChip *chip, ThumbClock *clock, double cycle_nanos) {
    uint32_t *r = (uint32_t *)core->registers.data;
    int n = core->n, z = core->z, c = core->c, v = core->v;
    long done = 0;
    int64_t cycles = 0, room = INT64_MAX;
    thumb_ran = 0;
    if (core->waiting || core->interrupts_updated) return 0;
    if ((PyObject *)clock->_next_alarm != Py_None) {
        double left = (clock->_next_alarm->nanos - clock->_nanos_counter) / cycle_nanos;
        if (left < 1e15) room = (int64_t)left - THUMB_LONGEST;
    }

#define LOW(shift) r[op >> (shift) & 7]
#define NZ(value) (n = (int)((uint32_t)(value) >> 31), z = (uint32_t)(value) == 0)
#define ADD(to, left, right) do { \
        int64_t a_ = (left), b_ = (right), sum_ = a_ + b_; \
        NZ(sum_); c = sum_ != (int64_t)(uint32_t)sum_; \
        v = (int32_t)sum_ != (int64_t)(int32_t)a_ + (int32_t)b_; \
        to (uint32_t)sum_; \
    } while (0)
#define SUBTRACT(to, left, right) do { \
        int64_t a_ = (left), b_ = (right); \
        uint32_t x_ = (uint32_t)a_, y_ = (uint32_t)b_, rest_ = (uint32_t)(a_ - b_); \
        NZ(rest_); c = a_ >= b_; v = (int)(((x_ ^ y_) & (x_ ^ rest_)) >> 31); \
        to rest_; \
    } while (0)
#define LOAD(to, from, size, type, convert) do { \
        uint8_t *at_ = thumb_memory(chip, (from), size); \
        type got_; \
        if (!at_) goto leave; \
        memcpy(&got_, at_, size); \
        to = convert got_; took = 2; \
    } while (0)
#define STORE(where, size, type, what) do { \
        uint8_t *at_ = thumb_ram(chip, (where), size); \
        type put_ = (type)(what); \
        if (!at_) goto leave; \
        memcpy(at_, &put_, size); \
        took = 2; \
    } while (0)

    while (done < THUMB_AT_ONCE && cycles < room) {
        uint32_t here = r[15] & ~1u, next = r[15] + 2; /* an interrupt's handler begins at an odd address */
        uint8_t *code = thumb_memory(chip, here, 2);
        uint32_t op, x, y, at;
        int took = 1, i;
        if (!code) break;
        op = thumb_u16(code);
        switch (op >> 6) {
        case 0x000 ... 0x01F: /* LSLS (immediate) */
            x = LOW(3), y = op >> 6 & 31;
            if (y) c = x >> (32 - y) & 1;
            LOW(0) = x <<= y; NZ(x);
            break;
        case 0x020 ... 0x03F: /* LSRS (immediate) */
            x = LOW(3), y = op >> 6 & 31;
            c = x >> (y ? y - 1 : 31) & 1;
            LOW(0) = x = y ? x >> y : 0; NZ(x);
            break;
        case 0x040 ... 0x05F: /* ASRS (immediate) */
            x = LOW(3), y = op >> 6 & 31;
            c = x >> (y ? y - 1 : 31) & 1;
            LOW(0) = x = (uint32_t)((int32_t)x >> (y ? y : 31)); NZ(x);
            break;
        case 0x060 ... 0x067: ADD(LOW(0) =, LOW(3), LOW(6)); break;
        case 0x068 ... 0x06F: SUBTRACT(LOW(0) =, LOW(3), LOW(6)); break;
        case 0x070 ... 0x077: ADD(LOW(0) =, LOW(3), op >> 6 & 7); break;
        case 0x078 ... 0x07F: SUBTRACT(LOW(0) =, LOW(3), op >> 6 & 7); break;
        case 0x080 ... 0x09F: LOW(8) = x = op & 255; NZ(x); break; /* MOVS */
        case 0x0A0 ... 0x0BF: SUBTRACT((void), LOW(8), op & 255); break; /* CMP */
        case 0x0C0 ... 0x0DF: ADD(LOW(8) =, LOW(8), op & 255); break;
        case 0x0E0 ... 0x0FF: SUBTRACT(LOW(8) =, LOW(8), op & 255); break;
        case 0x100: LOW(0) = x = LOW(0) & LOW(3); NZ(x); break; /* ANDS */
        case 0x101: LOW(0) = x = LOW(0) ^ LOW(3); NZ(x); break; /* EORS */
        case 0x102: /* LSLS (register) */
            x = LOW(0), y = LOW(3) & 255;
            if (y) c = x >> ((32 - y) & 31) & 1;
            LOW(0) = x = y < 32 ? x << y : 0; NZ(x);
            break;
        case 0x103: /* LSRS (register) */
            x = LOW(0), y = LOW(3) & 255;
            c = y <= 32 ? x >> ((y - 1) & 31) & 1 : 0;
            LOW(0) = x = y < 32 ? x >> y : 0; NZ(x);
            break;
        case 0x104: /* ASRS (register) */
            x = LOW(0), y = LOW(3) & 255;
            if (y > 32) y = 32;
            c = x >> ((y - 1) & 31) & 1;
            LOW(0) = x = (uint32_t)((int32_t)x >> (y < 32 ? y : 31)); NZ(x);
            break;
        case 0x105: ADD(LOW(0) =, LOW(3), (int64_t)LOW(0) + c); break; /* ADCS */
        case 0x106: SUBTRACT(LOW(0) =, LOW(0), (int64_t)LOW(3) + 1 - c); break; /* SBCS */
        case 0x107: /* RORS */
            x = LOW(0), y = LOW(3) & 31;
            LOW(0) = x = y ? x >> y | x << (32 - y) : x; NZ(x); c = n;
            break;
        case 0x108: NZ(LOW(0) & LOW(3)); break; /* TST */
        case 0x109: SUBTRACT(LOW(0) =, 0, LOW(3)); break; /* RSBS */
        case 0x10A: SUBTRACT((void), LOW(0), LOW(3)); break; /* CMP */
        case 0x10B: ADD((void), LOW(0), LOW(3)); break; /* CMN */
        case 0x10C: LOW(0) = x = LOW(0) | LOW(3); NZ(x); break; /* ORRS */
        case 0x10D: LOW(0) = x = LOW(0) * LOW(3); NZ(x); break; /* MULS */
        case 0x10E: LOW(0) = x = LOW(0) & ~LOW(3); NZ(x); break; /* BICS */
        case 0x10F: LOW(0) = x = ~LOW(3); NZ(x); break; /* MVNS */
        case 0x110 ... 0x113: /* ADD (register) */
        case 0x118 ... 0x11B: /* MOV (register) */
            x = op >> 3 & 15, y = (op >> 4 & 8) | (op & 7);
            x = x == 15 ? next + 2 : r[x];
            if (op < 0x4500) x += y == 15 ? next + 2 : r[y];
            if (y == 15) next = x & ~1u, took = 2;
            else r[y] = y == 13 ? x & ~3u : x;
            break;
        case 0x114 ... 0x117: /* CMP (register), with high ones */
            x = (op >> 4 & 8) | (op & 7), y = op >> 3 & 15;
            SUBTRACT((void), x == 15 ? next : r[x], y == 15 ? next : r[y]);
            break;
        case 0x11C ... 0x11F: /* BX, BLX */
            x = op >> 3 & 15;
            y = x == 15 ? next : r[x];
            if (op & 7) goto leave;
            if (op & 0x80) {
                r[14] = next | 1;
                if (x == 14) y = r[14];
            } else if (core->current_mode && y >> 28 == 15) goto leave;
            next = y & ~1u, took = 2;
            break;
        case 0x120 ... 0x13F: LOAD(LOW(8), ((next + 2) & ~3u) + ((op & 255) << 2), 4, uint32_t, ); break;
        case 0x140 ... 0x147: STORE(LOW(6) + LOW(3), 4, uint32_t, LOW(0)); break;
        case 0x148 ... 0x14F: STORE(LOW(6) + LOW(3), 2, uint16_t, LOW(0)); break;
        case 0x150 ... 0x157: STORE(LOW(6) + LOW(3), 1, uint8_t, LOW(0)); break;
        case 0x158 ... 0x15F: LOAD(LOW(0), LOW(6) + LOW(3), 1, int8_t, (uint32_t)(int32_t)); break;
        case 0x160 ... 0x167: LOAD(LOW(0), LOW(6) + LOW(3), 4, uint32_t, ); break;
        case 0x168 ... 0x16F: LOAD(LOW(0), LOW(6) + LOW(3), 2, uint16_t, ); break;
        case 0x170 ... 0x177: LOAD(LOW(0), LOW(6) + LOW(3), 1, uint8_t, ); break;
        case 0x178 ... 0x17F: LOAD(LOW(0), LOW(6) + LOW(3), 2, int16_t, (uint32_t)(int32_t)); break;
        case 0x180 ... 0x19F: STORE(LOW(3) + ((op >> 6 & 31) << 2), 4, uint32_t, LOW(0)); break;
        case 0x1A0 ... 0x1BF: /* LDR (immediate) */
            at = LOW(3) + ((op >> 6 & 31) << 2);
            if (at == THUMB_CPUID) LOW(0) = 0;
            else LOAD(LOW(0), at, 4, uint32_t, );
            break;
        case 0x1C0 ... 0x1DF: STORE(LOW(3) + (op >> 6 & 31), 1, uint8_t, LOW(0)); break;
        case 0x1E0 ... 0x1FF: LOAD(LOW(0), LOW(3) + (op >> 6 & 31), 1, uint8_t, ); break;
        case 0x200 ... 0x21F: STORE(LOW(3) + ((op >> 6 & 31) << 1), 2, uint16_t, LOW(0)); break;
        case 0x220 ... 0x23F: LOAD(LOW(0), LOW(3) + ((op >> 6 & 31) << 1), 2, uint16_t, ); break;
        case 0x240 ... 0x25F: STORE(r[13] + ((op & 255) << 2), 4, uint32_t, LOW(8)); break;
        case 0x260 ... 0x27F: LOAD(LOW(8), r[13] + ((op & 255) << 2), 4, uint32_t, ); break;
        case 0x280 ... 0x29F: LOW(8) = (here & ~3u) + 4 + ((op & 255) << 2); break; /* ADR */
        case 0x2A0 ... 0x2BF: LOW(8) = r[13] + ((op & 255) << 2); break;
        case 0x2C0 ... 0x2C1: r[13] = (r[13] + ((op & 127) << 2)) & ~3u; break;
        case 0x2C2 ... 0x2C3: r[13] = (r[13] - ((op & 127) << 2)) & ~3u; break;
        case 0x2C8: LOW(0) = (uint32_t)(int32_t)(int16_t)LOW(3); break; /* SXTH */
        case 0x2C9: LOW(0) = (uint32_t)(int32_t)(int8_t)LOW(3); break; /* SXTB */
        case 0x2CA: LOW(0) = LOW(3) & 0xFFFF; break;
        case 0x2CB: LOW(0) = LOW(3) & 0xFF; break;
        case 0x2D0 ... 0x2D7: /* PUSH */
            at = r[13] - 4 * (uint32_t)__builtin_popcount(op & 0x1FF);
            x = 0;
            code = thumb_ram(chip, at, r[13] - at);
            if (!code) goto leave;
            for (i = 0; i < 8; i++)
                if (op >> i & 1) memcpy(code + x, &r[i], 4), x += 4, took++;
            if (op & 0x100) memcpy(code + x, &r[14], 4);
            r[13] = at & ~3u;
            break;
        case 0x2E8: LOW(0) = __builtin_bswap32(LOW(3)); break; /* REV */
        case 0x2E9: x = LOW(3); LOW(0) = (x >> 8 & 0xFF00FF) | (x & 0xFF00FF) << 8; break; /* REV16 */
        case 0x2EB: LOW(0) = (uint32_t)(int32_t)(int16_t)__builtin_bswap16((uint16_t)LOW(3)); break; /* REVSH */
        case 0x2F0 ... 0x2F7: /* POP */
            at = r[13];
            x = 4 * (uint32_t)__builtin_popcount(op & 0x1FF);
            code = thumb_memory(chip, at, x);
            if (!code) goto leave;
            if (op & 0x100) {
                y = thumb_u32(code + x - 4);
                if (core->current_mode && y >> 28 == 15) goto leave;
                next = y & ~1u, took = 3;
            }
            for (i = 0; i < 8; i++)
                if (op >> i & 1) memcpy(&r[i], code, 4), code += 4, took++;
            r[13] = (at + x) & ~3u;
            break;
        case 0x300 ... 0x33F: /* STMIA, LDMIA */
            at = LOW(8);
            x = 4 * (uint32_t)__builtin_popcount(op & 255);
            code = op & 0x800 ? thumb_memory(chip, at, x) : thumb_ram(chip, at, x);
            if (!code) goto leave;
            for (i = 0; i < 8; i++)
                if (op >> i & 1) {
                    if (op & 0x800) memcpy(&r[i], code, 4);
                    else memcpy(code, &r[i], 4);
                    code += 4, took++;
                }
            if (!(op >> (op >> 8 & 7) & 1)) LOW(8) = at + x;
            break;
        case 0x340 ... 0x377: { /* B with a condition */
            int yes[] = {z, c, n, v, c && !z, n == v, n == v && !z};
            if (yes[op >> 9 & 7] != (int)(op >> 8 & 1)) next += 2 + (uint32_t)((int32_t)(int8_t)op * 2), took = 2;
            break;
        }
        case 0x380 ... 0x39F: /* B */
            next += 2 + (uint32_t)((int32_t)(op << 21) >> 20), took = 2;
            break;
        case 0x3C0 ... 0x3DF: /* BL, of the instructions of two halves */
            code = thumb_memory(chip, here + 2, 2);
            if (!code || ((y = thumb_u16(code)) & 0xD000) != 0xD000) goto leave;
            x = op >> 10 & 1;
            at = (x ? 0xFF000000u : 0) | (1 ^ x ^ (y >> 13 & 1)) << 23 | (1 ^ x ^ (y >> 11 & 1)) << 22;
            at |= (op & 0x3FF) << 12 | (y & 0x7FF) << 1;
            r[14] = (next + 2) | 1;
            next += 2 + at, took = 3;
            break;
        default: goto leave;
        }
        r[15] = next;
        cycles += took;
        done++;
    }
leave:
#undef LOW
#undef NZ
#undef ADD
#undef SUBTRACT
#undef LOAD
#undef STORE
    core->n = n, core->z = z, core->c = c, core->v = v;
    core->cycles += (unsigned long long)cycles;
    clock->_nanos_counter += (double)cycles * cycle_nanos;
    return thumb_ran = done;
}
