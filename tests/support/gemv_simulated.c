/* Platform of hw/axi/c/gemv.c for tests: registers and synchronization are functions of the test. */
#include "gemv.h"

int platform_open(struct gemv_channel *channel);
void simulate(const struct gemv_channel *found, uint32_t (*read)(uint32_t),
              void (*write)(uint32_t, uint32_t), void (*copy)(int, uint64_t, uint64_t));

static struct gemv_channel simulated;
static uint32_t (*read_register)(uint32_t);
static void (*write_register)(uint32_t, uint32_t);
static void (*copy_memory)(int, uint64_t, uint64_t);

void simulate(const struct gemv_channel *found, uint32_t (*read)(uint32_t),
              void (*write)(uint32_t, uint32_t), void (*copy)(int, uint64_t, uint64_t)) {
    simulated = *found;
    read_register = read;
    write_register = write;
    copy_memory = copy;
}

int platform_open(struct gemv_channel *channel) {
    *channel = simulated;
    return 0;
}

uint32_t mmio_read(uint32_t offset) { return read_register(offset); }

void mmio_write(uint32_t offset, uint32_t value) { write_register(offset, value); }

void memory_give(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    (void)channel;
    copy_memory(1, first, size);
}

void memory_take(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    (void)channel;
    copy_memory(0, first, size);
}
