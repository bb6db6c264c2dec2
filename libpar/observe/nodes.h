/* Judging what was measured of nodes, apart from measuring. See par/nodes.h. */
#ifndef PAR__OBSERVE_NODES_H
#define PAR__OBSERVE_NODES_H

#include "par/nodes.h"
#include "par/topology.h"

par_status par__node_check_create(int n_ranks, par_node_check **out);
/* Products, memory and hosts of the ranks are filled in: finds messages, medians and faults. */
par_status par__node_check_judge(par_node_check *check, const par_pair_speed *pairs, int n_pairs);

#endif
