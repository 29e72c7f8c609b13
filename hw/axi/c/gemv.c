/* One product on a channel of tritstream_axi: docs/axi.md has the registers, docs/protocol.md the
 * frames. The platform (gemv_uio.c, for example) gives access to registers and memory.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gemv.h"

#include <string.h>

#include "tritstream_axi.h"

enum { ALIGN = TRITSTREAM_AXI_UNIT, HEADER = 20, TRAILER = 4, ROWS = 5 };
enum { ACTIVATIONS = 1, SCALES = 2, GEMV = 3, ACK = 0x81, RESULT = 0x82, DONE = 0x83 };
static const uint32_t RING = 1 << 16;   /* bytes at the end of the memory, a power of two */

static uint32_t reg(const struct gemv_channel *c, uint32_t offset) {
    return mmio_read(TRITSTREAM_AXI_CHANNEL(c->number) + offset);
}

static void set(const struct gemv_channel *c, uint32_t offset, uint32_t value) {
    mmio_write(TRITSTREAM_AXI_CHANNEL(c->number) + offset, value);
}

static uint32_t padded(uint32_t size, uint32_t align) { return (size + align - 1) / align * align; }

static uint32_t crc32(const uint8_t *data, size_t size) {
    uint32_t crc = ~0u;
    while (size--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

static void put32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get32(const uint8_t *from) {
    return from[0] | from[1] << 8 | from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Write a request frame to memory at `place`, and return the place behind it. */
static uint32_t request(struct gemv_channel *c, uint32_t place, uint32_t opcode, uint32_t arg0,
                        uint32_t arg1, const void *payload, uint32_t size) {
    uint8_t *frame = c->memory + place;
    uint32_t covered = ALIGN + padded(size, ALIGN);
    memset(frame, 0, covered + ALIGN);
    put32(frame, 0x3354 | opcode << 16 | opcode << 24);     /* the opcode is the sequence, too */
    put32(frame + 4, arg0);
    put32(frame + 8, arg1);
    put32(frame + 12, size);
    put32(frame + 16, crc32(frame, 16));
    memcpy(frame + ALIGN, payload, size);
    put32(frame + covered, crc32(frame, covered));
    return place + covered + ALIGN;
}

/* Begin a session: the channel may use `bytes` of memory, a multiple of 4096. */
static int begin(struct gemv_channel *c) {
    uint64_t ring = c->address + c->bytes - RING;
    uint32_t session = reg(c, TRITSTREAM_AXI_SESSION) + 1;
    set(c, TRITSTREAM_AXI_BASE_LOW, (uint32_t)c->address);
    set(c, TRITSTREAM_AXI_BASE_HIGH, (uint32_t)(c->address >> 32));
    set(c, TRITSTREAM_AXI_MEMORY, (uint32_t)((c->bytes - RING) / TRITSTREAM_AXI_UNIT));
    set(c, TRITSTREAM_AXI_RING_LOW, (uint32_t)ring);
    set(c, TRITSTREAM_AXI_RING_HIGH, (uint32_t)(ring >> 32));
    set(c, TRITSTREAM_AXI_RING, RING);
    set(c, TRITSTREAM_AXI_RESTART, session);
    while (reg(c, TRITSTREAM_AXI_SESSION) != session) {}
    c->lanes = reg(c, TRITSTREAM_AXI_LANES);
    c->seen = reg(c, TRITSTREAM_AXI_WRITTEN);
    return (int)reg(c, TRITSTREAM_AXI_ERROR);
}

/* Take `size` bytes of responses out of the ring, a multiple of the lanes. Return the error. */
static int take(struct gemv_channel *c, uint8_t *to, uint32_t size) {
    for (; size; size -= c->lanes, to += c->lanes, c->seen++) {
        while (reg(c, TRITSTREAM_AXI_WRITTEN) == c->seen) {
            uint32_t error = reg(c, TRITSTREAM_AXI_ERROR);
            if (error) return (int)error;
        }
        uint64_t place = c->bytes - RING + c->seen * c->lanes % RING;
        memory_take(c, place, c->lanes);
        memcpy(to, c->memory + place, c->lanes);
    }
    set(c, TRITSTREAM_AXI_TAKE, c->seen);
    return 0;
}

/* Receive a response of at most `room` bytes with header and padding. Return its opcode, or -1. */
static int response(struct gemv_channel *c, uint8_t *frame, uint32_t room) {
    uint32_t head = padded(HEADER, c->lanes), tail = padded(TRAILER, c->lanes);
    if (take(c, frame, head) || get32(frame + 16) != crc32(frame, 16)) return -1;
    uint32_t covered = head + padded(get32(frame + 12), c->lanes);
    if (covered + tail > room || take(c, frame + head, covered - head + tail)) return -1;
    return get32(frame + covered) == crc32(frame, covered) ? frame[2] : -1;
}

int gemv(struct gemv_channel *c, const struct gemv_product *p, int64_t *sums) {
    static uint8_t frame[ALIGN + 8 * ROWS * ALIGN + ALIGN];
    if (mmio_read(TRITSTREAM_AXI_GLOBAL_MAGIC) != TRITSTREAM_AXI_MAGIC_VALUE || begin(c)) return -1;
    if (3 * (uint64_t)(3 * ALIGN) + p->size + p->columns + RING > c->bytes) return -1;
    uint32_t end = request(c, 0, SCALES, 0, 0, p->mantissas, 27 * 4);
    end = request(c, end, ACTIVATIONS, 0, p->columns, p->activations, p->columns);
    end = request(c, end, GEMV, p->arg0, p->arg1, p->words, p->size);
    memory_give(c, 0, end);
    set(c, TRITSTREAM_AXI_ADDRESS, 0);
    set(c, TRITSTREAM_AXI_LENGTH, end / TRITSTREAM_AXI_UNIT);
    set(c, TRITSTREAM_AXI_INDEX, reg(c, TRITSTREAM_AXI_TAIL));
    if (reg(c, TRITSTREAM_AXI_REFUSED)) return -1;
    for (;;) {
        int opcode = response(c, frame, sizeof frame);
        if (opcode == DONE) return 0;
        if (opcode == ACK) continue;
        if (opcode != RESULT) return -1;
        const uint8_t *data = frame + padded(HEADER, c->lanes);
        for (uint32_t row = 0; row < ROWS * c->lanes; row++)
            sums[get32(frame + 4) * ROWS * c->lanes + row] =
                (int64_t)(get32(data + 8 * row) | (uint64_t)get32(data + 8 * row + 4) << 32);
    }
}
