/* Targets for scripts/fuzz itself, which fuzz.test has: one that is sound, and one that breaks its
 * promise behind six conditions. Only who sees that each was passed finds the last. */
#include "../harness.h"
#include "../mutate.h"

static int target_sound(const uint8_t *data, size_t n) {
    return n > 0 && data[0] == 's' ? 0 : -1;
}

static int target_planted(const uint8_t *data, size_t n) {
    if (n < 6 || data[0] != 'l') return -1;
    if (data[1] != 'i') return 0;
    if (data[2] != 'b') return 0;
    if (data[3] != 'p') return 0;
    if (data[4] != 'a') return 0;
    CHECK(data[5] != 'r', "the planted fault");
    return 0;
}

static void both(void) {
    mutate_run("sound", target_sound, "sound", 5, 1000);
    mutate_run("planted", target_planted, "l_____", 6, 20000);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"both", both, 0, NULL, 0}};
    return harness_main("planted", cases, HARNESS_COUNT(cases), argc, argv);
}
