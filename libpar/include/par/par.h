/* All of libpar's public interface but MPI's part (par/mpi.h). */
#ifndef PAR_PAR_H
#define PAR_PAR_H

#include "par/checkpoint.h"
#include "par/comm.h"
#include "par/data.h"
#include "par/generate.h"
#include "par/import.h"
#include "par/kernels.h"
#include "par/memory.h"
#include "par/mesh.h"
#include "par/model.h"
#include "par/observe.h"
#include "par/option.h"
#include "par/random.h"
#include "par/record.h"
#include "par/schedule.h"
#include "par/series.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/text.h"
#include "par/threads.h"
#include "par/tokenizer.h"
#include "par/train.h"
#include "par/transformer.h"
#include "par/verify.h"
#include "par/watchdog.h"
#include "par/vote.h"

#endif
