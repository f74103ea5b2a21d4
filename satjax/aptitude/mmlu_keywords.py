"""What MMLU's subjects are about, five words each."""

_SUBJECTS = """
abstract_algebra: groups, rings, fields, homomorphisms, permutations
anatomy: bones, muscles, organs, nerves, tissues
astronomy: planets, stars, galaxies, orbits, telescopes
business_ethics: corporations, stakeholders, responsibility, whistleblowing, fairness
clinical_knowledge: diagnosis, symptoms, treatment, examination, emergencies
college_biology: cells, genes, evolution, ecology, enzymes
college_chemistry: molecules, spectroscopy, equilibrium, orbitals, reactions
college_computer_science: algorithms, complexity, automata, memory, networks
college_mathematics: integrals, matrices, topology, series, limits
college_medicine: physiology, biochemistry, patients, metabolism, pathology
college_physics: quantum, thermodynamics, waves, relativity, electromagnetism
computer_security: encryption, attacks, vulnerabilities, authentication, malware
conceptual_physics: motion, forces, energy, light, heat
econometrics: regression, estimators, heteroscedasticity, stationarity, residuals
electrical_engineering: circuits, voltage, transistors, machines, signals
elementary_mathematics: addition, fractions, division, word problems, percentages
formal_logic: predicates, quantifiers, validity, truth tables, propositions
global_facts: population, countries, surveys, income, statistics
high_school_biology: photosynthesis, inheritance, ecosystems, membranes, proteins
high_school_chemistry: moles, acids, bonds, gases, oxidation
high_school_computer_science: programs, loops, variables, binary, functions
high_school_european_history: revolution, monarchy, Reformation, Enlightenment, treaties
high_school_geography: urbanization, migration, agriculture, demography, regions
high_school_government_and_politics: Congress, elections, constitution, courts, federalism
high_school_macroeconomics: inflation, unemployment, output, money, policy
high_school_mathematics: equations, probability, geometry, sequences, polynomials
high_school_microeconomics: demand, supply, elasticity, monopoly, costs
high_school_physics: velocity, momentum, charge, friction, pendulum
high_school_psychology: memory, conditioning, perception, development, personality
high_school_statistics: sampling, hypothesis, distributions, confidence, correlation
high_school_us_history: colonies, slavery, reform, presidents, expansion
high_school_world_history: empires, trade, religion, colonialism, dynasties
human_aging: elderly, longevity, dementia, retirement, lifespan
human_sexuality: reproduction, relationships, gender, contraception, behaviour
international_law: treaties, sovereignty, jurisdiction, custom, tribunals
jurisprudence: legal theory, rights, positivism, justice, judges
logical_fallacies: arguments, ad hominem, premises, reasoning, errors
machine_learning: neural networks, overfitting, classifiers, kernels, gradients
management: leadership, organizations, motivation, planning, teams
marketing: brands, customers, pricing, segmentation, advertising
medical_genetics: mutations, chromosomes, inheritance, alleles, disorders
miscellaneous: trivia, culture, sports, films, everyday facts
moral_disputes: ethics, abortion, punishment, liberty, animals
moral_scenarios: right, wrong, actions, intentions, judgement
nutrition: vitamins, diet, energy, minerals, fats
philosophy: knowledge, mind, ethics, metaphysics, arguments
prehistory: hominids, fossils, archaeology, tools, settlements
professional_accounting: audit, assets, taxes, liabilities, statements
professional_law: contracts, torts, evidence, property, criminal procedure
professional_medicine: patients, laboratory findings, diagnosis, drugs, management
professional_psychology: therapy, assessment, counselling, research, disorders
public_relations: media, publics, campaigns, communication, reputation
security_studies: terrorism, war, deterrence, strategy, states
sociology: class, norms, inequality, institutions, socialization
us_foreign_policy: diplomacy, alliances, Cold War, intervention, presidents
virology: viruses, infection, vaccines, replication, outbreaks
world_religions: Buddhism, Christianity, Islam, rituals, scriptures
"""

MMLU_KEYWORDS: dict[str, tuple[str, ...]] = {
    f"mmlu/{subject}": tuple(words.split(", "))
    for subject, words in (line.split(": ") for line in _SUBJECTS.strip().splitlines())
}
"""Keywords by task name; the 57 subjects of Hendrycks et al. 2021, described in our own words."""
