/* Platform of gemv.c: Linux with the core at /dev/uio0 and memory of u-dma-buf at /dev/udmabuf0.
 * Not tried on hardware. The caches of the CPU are synchronized by files of u-dma-buf.
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "gemv.h"

#define SYSFS "/sys/class/u-dma-buf/udmabuf0/"

static volatile uint32_t *registers;

uint32_t mmio_read(uint32_t offset) { return registers[offset / 4]; }

void mmio_write(uint32_t offset, uint32_t value) { registers[offset / 4] = value; }

static uint64_t number(const char *path) {
    uint64_t value = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%" SCNi64, (int64_t *)&value) != 1) value = 0;
    fclose(file);
    return value;
}

static void synchronize(const char *path, uint64_t first, uint64_t size) {
    uint64_t start = first / 64 * 64, end = (first + size + 63) / 64 * 64;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "0x%08" PRIX64 "%08" PRIX64, start, (end - start) | 1);
    fclose(file);
}

void memory_give(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    (void)channel;
    synchronize(SYSFS "sync_for_device", first, size);
}

void memory_take(struct gemv_channel *channel, uint64_t first, uint64_t size) {
    (void)channel;
    synchronize(SYSFS "sync_for_cpu", first, size);
}

static void *map(const char *path, size_t size) {
    int file = open(path, O_RDWR);
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) perror(path);
    return place;
}

int platform_open(struct gemv_channel *channel) {
    channel->address = number(SYSFS "phys_addr");
    channel->bytes = number(SYSFS "size");
    uint64_t size = number("/sys/class/uio/uio0/maps/map0/size");
    void *mapped = map("/dev/uio0", size), *memory = map("/dev/udmabuf0", channel->bytes);
    registers = mapped;
    channel->memory = memory;
    return mapped == MAP_FAILED || memory == MAP_FAILED;
}
