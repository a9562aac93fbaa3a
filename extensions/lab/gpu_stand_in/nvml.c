/* GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 *
 * A stand-in for libnvidia-ml.so.1, for hosts of tests without a GPU. It answers the calls that the
 * collection and nvitop make from a file of lines `key=value`, which stand_in.py writes from what
 * nvidia-smi once said of real cards. The file is read at every call: what a test changes is seen
 * at once, also by who keeps the library open. What the file does not hold is "not supported".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define INVALID 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define TOO_SMALL 7
#define NO_DRIVER 9
#define LOST 15
#define MIB 1048576ULL

typedef unsigned int u32;
typedef unsigned long long u64;

static const char *place(void) {
    const char *told = getenv("STAND_IN_GPUS");
    return told && *told ? told : "/etc/stand-in-gpus/answers";
}

/* The value of a key; 0 where there is none. */
static int ask(const char *key, char *into, size_t size) {
    char line[512];
    size_t length = strlen(key);
    int found = 0;
    FILE *file = fopen(place(), "r");
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(into, size, "%s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

/* A handle is a number: the card's plus 1, and above it that of its instance plus 1. */
static int card_of(void *handle) { return (int)((u64)handle & 0xffff) - 1; }
static int instance_of(void *handle) { return (int)((u64)handle >> 16 & 0xffff) - 1; }
static void *handle_of(int card, int instance) {
    return (void *)(u64)((card + 1) | (instance + 1) << 16);
}

static void key_of(char *key, size_t size, void *handle, const char *what) {
    if (instance_of(handle) < 0)
        snprintf(key, size, "%d.%s", card_of(handle), what);
    else
        snprintf(key, size, "%d.mig.%d.%s", card_of(handle), instance_of(handle), what);
}

/* What the file says of a card or an instance, as text. */
static int text_of(void *handle, const char *what, char *into, size_t size) {
    char key[96], lost[8];
    if (card_of(handle) < 0) return INVALID;
    snprintf(key, sizeof key, "%d.lost", card_of(handle));
    if (ask(key, lost, sizeof lost)) return LOST;
    key_of(key, sizeof key, handle, what);
    return ask(key, into, size) ? OK : NOT_SUPPORTED;
}

/* As many whole numbers. */
static int numbers_of(void *handle, const char *what, u64 *into, int many) {
    char text[256], *rest = text;
    int code = text_of(handle, what, text, sizeof text);
    for (int at = 0; code == OK && at < many; at++) {
        char *begin = rest;
        into[at] = strtoull(begin, &rest, 10);
        if (rest == begin) return NOT_SUPPORTED;
    }
    return code;
}

static int one(void *handle, const char *what, u32 *into) {
    u64 value = 0;
    int code = numbers_of(handle, what, &value, 1);
    if (code == OK) *into = (u32)value;
    return code;
}

static int copy(void *handle, const char *what, char *into, u32 size) {
    char text[256];
    int code = text_of(handle, what, text, sizeof text);
    if (code != OK) return code;
    if (strlen(text) + 1 > size) return TOO_SMALL;
    strcpy(into, text);
    return OK;
}

/* --- the library and the driver */
int nvmlInit_v2(void) {
    char text[64];
    if (ask("init", text, sizeof text)) return atoi(text); /* a driver that does not start */
    return ask("count", text, sizeof text) ? OK : NO_DRIVER;
}
int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlInitWithFlags(u32 flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case INVALID: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case TOO_SMALL: return "Insufficient Size";
    case NO_DRIVER: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    }
    return "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *into, u32 size) {
    return ask("driver", into, size) ? OK : NOT_SUPPORTED;
}
int nvmlSystemGetNVMLVersion(char *into, u32 size) {
    char driver[64];
    if (!ask("driver", driver, sizeof driver)) return NOT_SUPPORTED;
    snprintf(into, size, "12.%s", driver);
    return OK;
}
int nvmlSystemGetCudaDriverVersion_v2(int *into) {
    char text[32];
    if (!ask("cuda", text, sizeof text)) return NOT_SUPPORTED;
    *into = atoi(text);
    return OK;
}
int nvmlSystemGetCudaDriverVersion(int *into) { return nvmlSystemGetCudaDriverVersion_v2(into); }

/* --- cards and instances */
int nvmlDeviceGetCount_v2(u32 *into) {
    char text[32];
    if (!ask("count", text, sizeof text)) return NO_DRIVER;
    *into = (u32)atoi(text);
    return OK;
}
int nvmlDeviceGetCount(u32 *into) { return nvmlDeviceGetCount_v2(into); }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **into) {
    u32 count = 0;
    char key[32], lost[8];
    if (nvmlDeviceGetCount_v2(&count) != OK || index >= count) return INVALID;
    snprintf(key, sizeof key, "%u.lost", index);
    if (ask(key, lost, sizeof lost)) return LOST;
    *into = handle_of((int)index, -1);
    return OK;
}
int nvmlDeviceGetHandleByIndex(u32 index, void **into) {
    return nvmlDeviceGetHandleByIndex_v2(index, into);
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, u32 *into) {
    return one(handle, "mig.max", into);
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, u32 index, void **into) {
    char text[128];
    void *found = handle_of(card_of(handle), (int)index);
    int code = text_of(found, "gi", text, sizeof text);
    if (code == OK) *into = found;
    return code == NOT_SUPPORTED ? NOT_FOUND : code;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **into) {
    *into = handle_of(card_of(handle), -1);
    return OK;
}
int nvmlDeviceIsMigDeviceHandle(void *handle, u32 *into) {
    *into = instance_of(handle) >= 0;
    return OK;
}
static int by(const char *what, const char *wanted, void **into) {
    char text[128];
    u32 count = 0;
    nvmlDeviceGetCount_v2(&count);
    for (int card = 0; card < (int)count; card++)
        for (int instance = -1; instance < 8; instance++) {
            void *handle = handle_of(card, instance);
            if (text_of(handle, what, text, sizeof text) == OK && !strcmp(text, wanted)) {
                *into = handle;
                return OK;
            }
        }
    return NOT_FOUND;
}
int nvmlDeviceGetHandleByUUID(const char *wanted, void **into) { return by("uuid", wanted, into); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **into) {
    return by("bus_id", wanted, into);
}
int nvmlDeviceGetIndex(void *handle, u32 *into) {
    *into = (u32)(instance_of(handle) < 0 ? card_of(handle) : instance_of(handle));
    return OK;
}
int nvmlDeviceGetGpuInstanceId(void *handle, u32 *into) { return one(handle, "gi", into); }
int nvmlDeviceGetComputeInstanceId(void *handle, u32 *into) { return one(handle, "ci", into); }
int nvmlDeviceGetGpuInstanceById(void *handle, u32 id, void **into) {
    for (int instance = 0; instance < 8; instance++) {
        void *found = handle_of(card_of(handle), instance);
        u32 number = 0;
        if (one(found, "gi", &number) == OK && number == id) {
            *into = found;
            return OK;
        }
    }
    return NOT_FOUND;
}
struct gpu_instance {
    void *card;
    u32 id, profile, start, size;
};
int nvmlGpuInstanceGetInfo(void *handle, struct gpu_instance *into) {
    u64 both[2];
    int code = numbers_of(handle, "placement", both, 2);
    if (code != OK) return code;
    memset(into, 0, sizeof *into);
    into->card = handle_of(card_of(handle), -1);
    into->start = (u32)both[0];
    into->size = (u32)both[1];
    return one(handle, "gi", &into->id);
}
int nvmlDeviceGetMinorNumber(void *handle, u32 *into) { return one(handle, "minor", into); }
int nvmlDeviceGetName(void *handle, char *into, u32 size) {
    return copy(handle, "name", into, size);
}
int nvmlDeviceGetUUID(void *handle, char *into, u32 size) {
    return copy(handle, "uuid", into, size);
}
int nvmlDeviceGetSerial(void *handle, char *into, u32 size) {
    return copy(handle, "serial", into, size);
}
int nvmlDeviceGetVbiosVersion(void *handle, char *into, u32 size) {
    return copy(handle, "vbios", into, size);
}
struct pci {
    char legacy[16];
    u32 domain, bus, device, device_id, subsystem;
    char bus_id[32];
};
int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *into) {
    char text[32];
    int code = text_of(handle, "bus_id", text, sizeof text);
    if (code != OK) return code;
    memset(into, 0, sizeof *into);
    strcpy(into->bus_id, text);
    snprintf(into->legacy, sizeof into->legacy, "%.15s", strlen(text) > 12 ? text + 4 : text);
    sscanf(text, "%x:%x:%x", &into->domain, &into->bus, &into->device);
    one(handle, "device_id", &into->device_id);
    return OK;
}
struct attributes {
    u32 multiprocessors, copies, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    u64 memory;
};
int nvmlDeviceGetAttributes_v2(void *handle, struct attributes *into) {
    u64 memory[4];
    memset(into, 0, sizeof *into);
    int code = one(handle, "multiprocessors", &into->multiprocessors);
    if (code == OK && numbers_of(handle, "memory", memory, 4) == OK) into->memory = memory[0];
    return code;
}

/* --- memory: total, reserved, used and free in MiB */
struct memory { u64 total, free, used; };
struct memory2 { u32 version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *into) {
    u64 mib[4];
    int code = numbers_of(handle, "memory", mib, 4);
    if (code != OK) return code;
    into->total = mib[0] * MIB;
    into->used = (mib[1] + mib[2]) * MIB;
    into->free = mib[3] * MIB;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory2 *into) {
    u64 mib[4];
    char text[8];
    int code = numbers_of(handle, "memory", mib, 4);
    if (code != OK) return code;
    if (text_of(handle, "memory_reserve_untold", text, sizeof text) == OK) return NOT_SUPPORTED;
    into->total = mib[0] * MIB;
    into->reserved = mib[1] * MIB;
    into->used = mib[2] * MIB;
    into->free = mib[3] * MIB;
    return OK;
}
int nvmlDeviceGetBAR1MemoryInfo(void *handle, struct memory *into) {
    u64 mib[3];
    int code = numbers_of(handle, "bar1", mib, 3);
    if (code != OK) return code;
    into->total = mib[0] * MIB;
    into->used = mib[1] * MIB;
    into->free = mib[2] * MIB;
    return OK;
}

/* --- modes, health, load */
static int pair(void *handle, const char *what, u32 *first, u32 *second) {
    u64 both[2];
    int code = numbers_of(handle, what, both, 2);
    if (code != OK) return code;
    *first = (u32)both[0];
    *second = (u32)both[1];
    return OK;
}
int nvmlDeviceGetMigMode(void *handle, u32 *now, u32 *next) {
    return pair(handle, "mig", now, next);
}
int nvmlDeviceGetEccMode(void *handle, u32 *now, u32 *next) {
    return pair(handle, "ecc", now, next);
}
int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, u64 *into) {
    (void)counter;
    return numbers_of(handle, kind ? "ecc_uncorrected" : "ecc_corrected", into, 1);
}
int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, u32 *into) {
    return one(handle, "retired_pending", into);
}
int nvmlDeviceGetRemappedRows(void *handle, u32 *good, u32 *bad, u32 *pending, u32 *failed) {
    u64 rows[4];
    int code = numbers_of(handle, "remapped", rows, 4);
    if (code != OK) return code;
    *good = (u32)rows[0];
    *bad = (u32)rows[1];
    *pending = (u32)rows[2];
    *failed = (u32)rows[3];
    return OK;
}
int nvmlDeviceGetArchitecture(void *handle, u32 *into) { return one(handle, "arch", into); }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    return pair(handle, "capability", (u32 *)major, (u32 *)minor);
}
int nvmlDeviceGetComputeMode(void *handle, u32 *into) { return one(handle, "compute_mode", into); }
int nvmlDeviceGetPersistenceMode(void *handle, u32 *into) {
    return one(handle, "persistence", into);
}
int nvmlDeviceGetDisplayMode(void *handle, u32 *into) { return one(handle, "display_mode", into); }
int nvmlDeviceGetDisplayActive(void *handle, u32 *into) {
    return one(handle, "display_active", into);
}
int nvmlDeviceGetPerformanceState(void *handle, u32 *into) { return one(handle, "pstate", into); }
int nvmlDeviceGetCurrPcieLinkGeneration(void *handle, u32 *into) {
    return one(handle, "pcie_generation_now", into);
}
int nvmlDeviceGetMaxPcieLinkGeneration(void *handle, u32 *into) {
    return one(handle, "pcie_generation_max", into);
}
int nvmlDeviceGetCurrPcieLinkWidth(void *handle, u32 *into) {
    return one(handle, "pcie_width_now", into);
}
int nvmlDeviceGetMaxPcieLinkWidth(void *handle, u32 *into) {
    return one(handle, "pcie_width_max", into);
}
int nvmlDeviceGetPcieThroughput(void *handle, u32 counter, u32 *into) {
    return one(handle, counter ? "pcie_rx" : "pcie_tx", into);
}
int nvmlDeviceGetEnforcedPowerLimit(void *handle, u32 *into) {
    return one(handle, "power_limit", into);
}
int nvmlDeviceGetPowerManagementLimit(void *handle, u32 *into) {
    return one(handle, "power_limit", into);
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, u32 *into) {
    return one(handle, "power_default", into);
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, u32 *least, u32 *most) {
    return pair(handle, "power_range", least, most);
}
int nvmlDeviceGetPowerUsage(void *handle, u32 *into) { return one(handle, "power", into); }
int nvmlDeviceGetTemperature(void *handle, int sensor, u32 *into) {
    (void)sensor;
    return one(handle, "temperature", into);
}
int nvmlDeviceGetFanSpeed(void *handle, u32 *into) { return one(handle, "fan", into); }
int nvmlDeviceGetUtilizationRates(void *handle, u32 *into) {
    return pair(handle, "utilisation", into, into + 1);
}
static const char *const CLOCKS[] = {"graphics", "sm", "memory", "video"};
static int clock_of(void *handle, const char *kind, u32 clock, u32 *into) {
    char what[40];
    if (clock > 3) return INVALID;
    snprintf(what, sizeof what, "%s.%s", kind, CLOCKS[clock]);
    return one(handle, what, into);
}
int nvmlDeviceGetClockInfo(void *handle, u32 clock, u32 *into) {
    return clock_of(handle, "clock", clock, into);
}
int nvmlDeviceGetMaxClockInfo(void *handle, u32 clock, u32 *into) {
    return clock_of(handle, "clock_max", clock, into);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *into) {
    return numbers_of(handle, "throttle", into, 1);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *into) {
    return numbers_of(handle, "throttle", into, 1);
}

/* --- processes: how many there were when this was recorded; they cannot be listed */
static int processes(void *handle, u32 *count) {
    u32 many = 0, room = *count;
    int code = one(handle, "processes", &many);
    if (code != OK) return code;
    *count = many;
    if (!many || !room) return many ? TOO_SMALL : OK;
    *count = 0;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, u32 *count, void *into) {
    (void)into;
    return processes(handle, count);
}
int nvmlDeviceGetComputeRunningProcesses(void *handle, u32 *count, void *into) {
    (void)into;
    return processes(handle, count);
}
static int none(void *handle, u32 *count) {
    char text[8];
    int code = text_of(handle, "processes", text, sizeof text);
    if (code == OK) *count = 0;
    return code;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, u32 *count, void *into) {
    (void)into;
    return none(handle, count);
}
int nvmlDeviceGetGraphicsRunningProcesses(void *handle, u32 *count, void *into) {
    (void)into;
    return none(handle, count);
}

/* --- what newer drivers tell */
struct field {
    u32 field, scope;
    long long timestamp, latency;
    u32 type, code;
    u64 value;
};
int nvmlDeviceGetFieldValues(void *handle, int many, struct field *into) {
    for (int at = 0; at < many; at++) {
        u64 value = 0;
        char what[32];
        snprintf(what, sizeof what, "field.%u", into[at].field);
        into[at].code = (u32)numbers_of(handle, what, &value, 1);
        into[at].type = 1;
        into[at].value = value;
    }
    return OK;
}
int nvmlDeviceGetAddressingMode(void *handle, u32 *into) {
    return one(handle, "addressing", into + 1);
}
int nvmlDeviceGetRepairStatus(void *handle, u32 *into) {
    return pair(handle, "repair", into + 1, into + 2);
}
struct fabric {
    u32 version;
    unsigned char cluster[16];
    u32 status, clique;
    unsigned char state;
    u32 health;
};
int nvmlDeviceGetGpuFabricInfoV(void *handle, struct fabric *into) {
    u64 said[3];
    int code = numbers_of(handle, "fabric", said, 3);
    if (code != OK) return code;
    into->state = (unsigned char)said[0];
    into->status = (u32)said[1];
    into->health = (u32)said[2];
    return OK;
}
