/* A layout with its defaults. */
#ifndef PAR__LAYOUT_H
#define PAR__LAYOUT_H

#include "par/mesh.h"

par_layout par__layout_filled(const par_layout *layout);

#endif
