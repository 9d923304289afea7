// A CUDA driver whose device is the host's own memory: enough of the C interface for the buffers, the stream and the
// graph of one engine. Unlike a real one it refuses, with an error, what a real one would crash or misbehave on.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, CAPTURE_UNSUPPORTED = 900 };
typedef struct { void *target; const void *source; size_t size; void (*work)(void); } Step;
typedef struct { int count; Step steps[64]; } Graph;

static _Thread_local int pushed = 0;  // contexts are current a thread
static int retained = 0, live = 0, capturing = 0, stream_open = 0;
static Graph recording;

int fake_live(void) { return live + retained + stream_open; }
int fake_pushed(void) { return pushed; }

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 12060; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Fake GPU", size); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 6; return SUCCESS; }
int cuGetErrorName(int code, const char **name) {
    *name = code == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
          : code == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &retained; retained++; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return SUCCESS; }
int cuCtxPushCurrent_v2(void *context) { pushed++; return context == &retained ? SUCCESS : INVALID_VALUE; }
int cuCtxPopCurrent_v2(void **context) { if (!pushed) return INVALID_CONTEXT; pushed--; return SUCCESS; }
int cuStreamCreate(void **stream, unsigned flags) {
    if (!pushed) return INVALID_CONTEXT;
    *stream = (void *)0x7fff12345678;  // wider than 32 bits, to catch a handle that was cut
    stream_open++;
    return flags == 1 ? SUCCESS : INVALID_VALUE;
}
static int bad(void *stream) { return !pushed ? INVALID_CONTEXT : stream != (void *)0x7fff12345678 ? INVALID_VALUE : 0; }
int cuStreamDestroy_v2(void *stream) { stream_open--; return bad(stream); }
int cuStreamSynchronize(void *stream) { return capturing ? CAPTURE_UNSUPPORTED : bad(stream); }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    if (!pushed) return INVALID_CONTEXT;
    *address = malloc(size);
    live++;
    return SUCCESS;
}
int cuMemFreeHost(void *address) { free(address); live--; return pushed ? SUCCESS : INVALID_CONTEXT; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (!pushed) return INVALID_CONTEXT;
    if (capturing) return CAPTURE_UNSUPPORTED;
    *address = (uint64_t)malloc(size);
    live++;
    return SUCCESS;
}
int cuMemFree_v2(uint64_t address) { free((void *)address); live--; return pushed ? SUCCESS : INVALID_CONTEXT; }

static void run(Step *step) { if (step->work) step->work(); else memcpy(step->target, step->source, step->size); }
static int start(Step step, void *stream) {
    int code = bad(stream);
    if (code) return code;
    if (capturing) recording.steps[recording.count++] = step; else run(&step);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uint64_t target, const void *source, size_t size, void *stream) {
    return start((Step){(void *)target, source, size, 0}, stream);
}
int cuMemcpyDtoHAsync_v2(void *target, uint64_t source, size_t size, void *stream) {
    return start((Step){target, (const void *)source, size, 0}, stream);
}
// What a library does when it is asked to run an engine on a stream.
int fake_enqueue(void (*work)(void), uint64_t stream) { return start((Step){0, 0, 0, work}, (void *)stream); }

int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = 1; recording.count = 0; return bad(stream); }
int cuStreamEndCapture(void *stream, void **graph) {
    capturing = 0;
    *graph = malloc(sizeof(Graph));
    memcpy(*graph, &recording, sizeof(Graph));
    live++;
    return bad(stream);
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, uint64_t flags) {
    *executable = malloc(sizeof(Graph));
    memcpy(*executable, graph, sizeof(Graph));
    live++;
    return flags ? INVALID_VALUE : SUCCESS;
}
int cuGraphLaunch(void *executable, void *stream) {
    Graph *graph = executable;
    for (int i = 0; i < graph->count; i++) run(&graph->steps[i]);
    return bad(stream);
}
int cuGraphDestroy(void *graph) { free(graph); live--; return SUCCESS; }
int cuGraphExecDestroy(void *executable) { free(executable); live--; return SUCCESS; }
