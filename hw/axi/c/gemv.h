/* One product on a channel of tritstream_axi, and what a platform has to provide.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TRITSTREAM_GEMV_H
#define TRITSTREAM_GEMV_H

#include <stddef.h>
#include <stdint.h>

/* A channel and its memory, whose first byte has `address` on the bus of the core. */
struct gemv_channel {
    uint32_t number;
    uint8_t *memory;
    uint64_t address, bytes;    /* multiples of 4096 */
    uint32_t lanes, seen;       /* set by gemv */
};

/* A matrix as tritstream.host.layout.prepare makes it, and a vector. */
struct gemv_product {
    uint32_t arg0, arg1;        /* of the GEMV request */
    const uint8_t *mantissas;   /* 27 numbers of four bytes */
    const int8_t *activations;
    uint32_t columns;           /* a multiple of 16 */
    const uint8_t *words;
    uint32_t size;              /* of the words, in bytes */
};

/* Multiply. `sums` has room for all rows of all row blocks. Return 0, or -1 after an error. */
int gemv(struct gemv_channel *channel, const struct gemv_product *product, int64_t *sums);

/* Registers, one access of 32 bits each, in this order. */
uint32_t mmio_read(uint32_t offset);
void mmio_write(uint32_t offset, uint32_t value);

/* Make bytes that were written here visible to the core, and bytes that it has written here. */
void memory_give(struct gemv_channel *channel, uint64_t first, uint64_t size);
void memory_take(struct gemv_channel *channel, uint64_t first, uint64_t size);

#endif
