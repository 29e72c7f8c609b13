/* Platform of hw/axi/c/gemv.c: a simulated core, as sim/axi.cpp declares it. Its memory is another
 * one than that of the program, so that a missing synchronization fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemv.h"

#define SIZE (1 << 20)
#define ADDRESS 0x570000000u

typedef struct Core Core;
Core *axi_new(void);
void axi_memory(Core *core, int32_t channel, uint8_t *data, uint64_t base, uint64_t size);
int32_t axi_write(Core *core, uint32_t address, uint32_t value, int64_t most);
int32_t axi_read(Core *core, uint32_t address, uint32_t *value, int64_t most);
int64_t axi_cycles(const Core *core);

static Core *core;
static uint8_t here[SIZE], there[SIZE];

uint32_t mmio_read(uint32_t offset) {
    uint32_t value = 0;
    if (axi_read(core, offset, &value, 1000)) {
        fprintf(stderr, "no register to read: 0x%x\n", offset);
        exit(3);
    }
    return value;
}

void mmio_write(uint32_t offset, uint32_t value) {
    if (axi_write(core, offset, value, 1000)) {
        fprintf(stderr, "no register to write: 0x%x\n", offset);
        exit(3);
    }
}

void memory_give(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    memcpy(there + first, channel->memory + first, size);
}

void memory_take(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    memcpy(channel->memory + first, there + first, size);
}

int platform_open(struct gemv_channel *channel) {
    core = axi_new();
    channel->number = 1;
    channel->memory = here;
    channel->address = ADDRESS;
    channel->bytes = SIZE;
    axi_memory(core, 1, there, ADDRESS, SIZE);
    return 0;
}
