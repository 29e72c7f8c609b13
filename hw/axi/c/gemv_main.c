/* gemv FOLDER ARG0 ARG1 ROWS: multiply the matrix of a folder, and print its row sums. The folder
 * has the files mantissas, activations and words: docs/axi.md says how to write them.
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "gemv.h"

int platform_open(struct gemv_channel *channel);

static uint8_t *contents(const char *folder, const char *name, uint32_t *size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    *size = (uint32_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, file) != *size) exit(1);
    fclose(file);
    return data;
}

int main(int count, char **texts) {
    if (count != 5) {
        fprintf(stderr, "gemv FOLDER ARG0 ARG1 ROWS\n");
        return 2;
    }
    struct gemv_channel channel = {0};
    struct gemv_product product = {0};
    uint32_t rows = (uint32_t)strtoul(texts[4], NULL, 0), size;
    product.arg0 = (uint32_t)strtoul(texts[2], NULL, 0);
    product.arg1 = (uint32_t)strtoul(texts[3], NULL, 0);
    product.mantissas = contents(texts[1], "mantissas", &size);
    product.activations = (const int8_t *)contents(texts[1], "activations", &product.columns);
    product.words = contents(texts[1], "words", &product.size);
    int64_t *sums = calloc((size_t)(product.arg1 & 0xFFFFFF) * 5 * 64, sizeof *sums);
    if (!sums || platform_open(&channel) || gemv(&channel, &product, sums)) {
        fprintf(stderr, "the product failed\n");
        return 1;
    }
    for (uint32_t row = 0; row < rows; row++) printf("%" PRId64 "\n", sums[row]);
    return 0;
}
