"""What the fast engine is made of.

order.py          how the neurons of a population lie in memory
compiled.py       numba, where it is installed
event_sums.py     event-driven synapses (numba)       gemm_sums.py    dense synapses (torch)
synapse.py        one synapse: its weights as each kernel wants them
choice.py         which kernel runs
neuron_rows.py    fused neuron update (numba)         populations.py  state of a population, compiled or in torch
count_plan.py     which sums the counts are made of   count_rows.py   those sums (numba)
count_sums.py, count_updates.py, counting.py      sums of a block of samples
count_terms.py    what each sum adds to               tallied.py      the counts from them
rooms.py          memory kept from block to block
block.py          a block of samples through time, from and to a keeper
walk.py           a block of samples through the graph
recording.py      what is kept for the trace
"""
